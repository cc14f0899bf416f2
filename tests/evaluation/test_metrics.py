"""The dimensions as torchmetrics."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection

from mpgen.errors import UserError
from mpgen.evaluation.metrics import DynamicDegree, ImagingQuality, MotionSmoothness, SubjectConsistency
from mpgen.evaluation.motion import DynamicProbe, SmoothnessProbe
from mpgen.evaluation.nets.amt import AmtS
from mpgen.evaluation.nets.dino import Dino
from mpgen.evaluation.nets.musiq import Musiq
from mpgen.evaluation.nets.raft import Raft
from mpgen.evaluation.precision import prepared
from mpgen.evaluation.probes import ImagingProbe, SubjectProbe
from mpgen.evaluation.trace import Trace
from mpgen.evaluation.weights import randomise


class Brightness(Musiq):
    """In MUSIQ's place: 0 for black, 100 for white."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return 100 * pictures.mean((1, 2, 3))


class Halfway(AmtS):
    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first + second) / 2


def flat(level: int, frames: int) -> torch.Tensor:
    return torch.full((frames, 3, 128, 130), level, dtype=torch.uint8)


def subject_trace(angles: list[float]) -> Trace:
    """Features that turn by so many degrees since the first frame."""
    radians = np.radians([0, *angles])
    features = np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)
    return Trace(24.0, len(features), 40, 56, {"subject/features": features})


def subject() -> SubjectProbe:
    network = Dino(width=24, depth=1, num_heads=2)
    randomise(network, 1, 2.0)
    return SubjectProbe(prepared(network, "fp32"))


def test_a_frozen_video_is_wholly_consistent():
    metric = SubjectConsistency(subject())
    metric.update(flat(90, 5))
    assert metric.compute().item() == pytest.approx(1, abs=1e-6)


def test_imaging_is_the_mean_over_videos_of_the_mean_over_frames():
    metric = ImagingQuality(ImagingProbe(Brightness()))
    metric.update(flat(51, 9))
    metric.update(flat(153, 2))
    assert metric.compute().item() == pytest.approx((0.2 + 0.6) / 2, abs=1e-6)


def test_by_frame_a_long_video_weighs_more():
    still, turned = subject_trace([0, 0, 0]), subject_trace([90])
    by_video, by_frame = SubjectConsistency(subject()), SubjectConsistency(subject(), average="frame")
    for metric in (by_video, by_frame):
        metric.update(still)
        metric.update(turned)
    assert by_video.compute().item() == pytest.approx((1 + 0) / 2, abs=1e-6)
    assert by_frame.compute().item() == pytest.approx(3 / 4, abs=1e-6)


def test_a_trace_and_the_frames_it_is_of_score_the_same():
    metric = ImagingQuality(ImagingProbe(Brightness()))
    metric.update(Trace(24.0, 2, 40, 56, {"imaging/score": np.array([20.0, 20.0], np.float32)}))
    seen = metric.compute().item()
    metric.reset()
    metric.update(flat(51, 2))
    assert metric.compute().item() == pytest.approx(seen, abs=1e-6)


def test_videos_in_another_order_or_on_two_machines_score_the_same():
    traces = [subject_trace([10, 20]), subject_trace([5]), subject_trace([80, 30, 2])]
    whole, first, second = (SubjectConsistency(subject(), average="frame") for _ in range(3))
    for trace in reversed(traces):
        whole.update(trace)
    first.update(traces[0])
    for trace in traces[1:]:
        second.update(trace)
    first.values += second.values
    first.counts += second.counts
    assert first.compute().item() == pytest.approx(whole.compute().item(), abs=1e-12)


def test_one_frame_never_moves_and_two_sampled_frames_always_do_as_in_vbench():
    metric = DynamicDegree(DynamicProbe(Raft()))
    arrays = {"dynamic/score": np.zeros(0, np.float32), "dynamic/frame": np.zeros(0, np.int64)}
    metric.update(Trace(24.0, 1, 480, 832, arrays))
    assert metric.compute() == 0
    metric.update(Trace(24.0, 4, 480, 832, {"dynamic/score": np.zeros(1, np.float32), "dynamic/frame": np.array([3])}))
    assert metric.compute() == 0.5


def test_a_video_too_short_is_refused_in_one_line():
    with pytest.raises(UserError, match="2 frames is too short for MotionSmoothness"):
        MotionSmoothness(SmoothnessProbe(Halfway())).update(flat(9, 2))


def test_without_a_video_there_is_no_score():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert SubjectConsistency(subject()).compute().isnan()


def test_metrics_work_in_a_collection():
    together = MetricCollection(
        {"imaging": ImagingQuality(ImagingProbe(Brightness())), "subject": SubjectConsistency(subject())}
    )
    together.update(flat(51, 3))
    assert together.compute()["imaging"].item() == pytest.approx(0.2, abs=1e-6)


def test_absent_weights_are_named(tmp_path):
    with pytest.raises(UserError, match=r"lacks dino_vitbase16_pretrain.pth, from Meta"):
        SubjectConsistency.from_weights(tmp_path)
