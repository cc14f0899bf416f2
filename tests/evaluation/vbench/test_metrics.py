"""The six dimensions as torchmetrics, in other people's loops: what torchmetrics' own tester asks of every metric."""

import copy
import pickle
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection

from mpgen.errors import UserError
from mpgen.evaluation.frames import Probe
from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.trace import Series, Trace
from mpgen.evaluation.vbench.frame_probes import AestheticProbe, BackgroundProbe, ImagingProbe, SubjectProbe
from mpgen.evaluation.vbench.metrics import (
    VBENCH,
    AestheticQuality,
    BackgroundConsistency,
    DynamicDegree,
    ImagingQuality,
    MotionSmoothness,
    SubjectConsistency,
    VBenchMetric,
)
from mpgen.evaluation.vbench.motion_probes import DynamicProbe, SmoothnessProbe
from mpgen.evaluation.vbench.networks.amt import AmtS
from mpgen.evaluation.vbench.networks.clip import AestheticHead, ClipImage
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.networks.musiq import Musiq
from mpgen.evaluation.vbench.networks.raft import Raft
from mpgen.evaluation.vbench.precision import prepared
from mpgen.evaluation.vbench.randomise import randomise


class Brightness(Musiq):
    """In MUSIQ's place: 0 for black, 100 for white."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return 100 * pictures.mean((1, 2, 3))


class Shift(Raft):
    """In RAFT's place: the change of the mean since the frame before, as a flow to the right."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def features(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.mean((1, 2, 3), keepdim=True)

    def forward(self, frames: torch.Tensor, features: torch.Tensor, next_features: torch.Tensor) -> torch.Tensor:
        flow = torch.zeros(len(frames), 2, *frames.shape[2:])
        flow[:, :1] = next_features - features
        return flow


class Halfway(AmtS):
    """In AMT's place: the mean of two frames."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first + second) / 2


def made(network: nn.Module, seed: int = 1) -> nn.Module:
    randomise(network, seed, 2.0)
    return prepared(network, "fp32")


def tiny_clip() -> ClipImage:
    return ClipImage(patch_px=56, width=12, depth=2, num_heads=2, embedding=5)


MAKERS: dict[type[VBenchMetric], Callable[[], Probe]] = {
    ImagingQuality: lambda: ImagingProbe(Brightness()),
    AestheticQuality: lambda: AestheticProbe(made(tiny_clip()), made(AestheticHead(5))),
    DynamicDegree: lambda: DynamicProbe(Shift()),
    MotionSmoothness: lambda: SmoothnessProbe(Halfway()),
    BackgroundConsistency: lambda: BackgroundProbe(made(tiny_clip())),
    SubjectConsistency: lambda: SubjectProbe(made(Dino(width=24, depth=1, num_heads=2))),
}


def metric_of(kind: type[VBenchMetric], average: str = "video") -> VBenchMetric:
    return kind(MAKERS[kind](), average)


def noise(frames: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, 128, 130), generator=generator, dtype=torch.uint8)


def still(frames: int = 5) -> torch.Tensor:
    return noise(1).expand(frames, -1, -1, -1).contiguous()


def flashing() -> torch.Tensor:
    return torch.cat([noise(9) // 9, noise(9, 1)])


VIDEOS = (still(), noise(), flashing(), noise(7, 3))


@cache
def alone(kind: type[VBenchMetric]) -> float:
    metric = metric_of(kind)
    for video in VIDEOS:
        metric.update(video, fps=24.0)
    return metric.compute().item()


every_metric = pytest.mark.parametrize("kind", VBENCH, ids=lambda kind: kind.__name__)


def test_every_metric_is_tested():
    assert set(MAKERS) == set(VBENCH)


@every_metric
def test_forward_gives_the_videos_own_score_and_counts_it_as_update_does(kind):
    metric = metric_of(kind)
    for video in VIDEOS:
        own = metric_of(kind)
        own.update(video)
        assert metric(video, fps=24.0).item() == pytest.approx(own.compute().item(), abs=1e-9)
    assert metric.compute().item() == pytest.approx(alone(kind), abs=1e-12)


@every_metric
def test_an_error_costs_nothing_that_was_there(kind):
    metric = metric_of(kind)
    metric.update(VIDEOS[1])
    metric.update(VIDEOS[2])
    before = metric.compute().item()
    bad = (noise().float() / 255, noise()[:, :1], noise()[None], noise().to(torch.int16), noise(0))
    for video in bad:
        for call in (metric, metric.update):
            with pytest.raises(UserError):
                call(video, fps=24.0)
    with pytest.raises(UserError, match="fps 0"):
        metric(noise(), fps=0.0)
    assert metric.compute().item() == before
    metric.update(VIDEOS[3])
    assert metric.weight == 3


@every_metric
def test_a_metric_in_a_collection_scores_what_it_scores_alone(kind):
    """Also after a first, still video, which gives several metrics the same score."""
    together = MetricCollection([metric_of(other) for other in VBENCH])
    for video in VIDEOS:
        together.update(video, fps=24.0)
    scores = together.compute()
    assert scores[kind.__name__].item() == pytest.approx(alone(kind), abs=1e-12)


def test_one_class_with_two_networks_is_two_metrics_in_a_collection():
    first, second = (SubjectProbe(made(Dino(width=24, depth=1, num_heads=2), seed)) for seed in (1, 2))
    together = MetricCollection({"first": SubjectConsistency(first), "second": SubjectConsistency(second)})
    for video in VIDEOS:
        together.update(video)
    scores = together.compute()
    assert scores["first"].item() == pytest.approx(alone(SubjectConsistency), abs=1e-12)
    assert scores["first"].item() != scores["second"].item()


def test_a_collection_called_on_a_video_gives_its_scores():
    together = MetricCollection([metric_of(ImagingQuality), metric_of(SubjectConsistency)])
    assert together(still())["SubjectConsistency"].item() == pytest.approx(1, abs=1e-6)
    assert together(noise())["SubjectConsistency"].item() < 1 - 1e-4


@every_metric
@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, lambda m: m.clone()])
def test_a_metric_is_copied_and_pickled_after_a_video(kind, copied):
    metric = metric_of(kind)
    for video in VIDEOS[:2]:
        metric.update(video)
    other = copied(metric)
    assert other.compute() == metric.compute()
    for video in VIDEOS[2:]:
        other.update(video)
    assert other.compute().item() == pytest.approx(alone(kind), abs=1e-12)


@every_metric
def test_dtypes_are_kept_and_scores_with_them(kind):
    metric = metric_of(kind)
    for change in (
        metric.half,
        metric.double,
        lambda: metric.set_dtype(torch.float16),
        lambda: metric.to(torch.bfloat16),
    ):
        change()
    nn.ModuleList([metric]).half()  # as part of somebody's model
    for video in VIDEOS:
        metric.update(video)
    assert metric.compute().item() == alone(kind)


@every_metric
def test_a_metric_moves_to_a_device(kind):
    metric = metric_of(kind).to(torch.device("cpu"))
    assert metric.device == torch.device("cpu")
    assert metric.total.device == metric.device


@every_metric
def test_reset_forgets_all_videos(kind):
    metric = metric_of(kind)
    metric.update(flashing())
    metric.reset()
    for video in VIDEOS:
        metric.update(video)
    assert metric.compute().item() == alone(kind)


@every_metric
def test_states_are_saved_and_merged(kind):
    first, second = metric_of(kind), metric_of(kind)
    for video in VIDEOS[:1]:
        first.update(video)
    for video in VIDEOS[1:]:
        second.update(video)
    first.merge_state(second)
    assert first.compute().item() == pytest.approx(alone(kind), abs=1e-12)
    first.persistent(True)
    other = metric_of(kind)
    other.persistent(True)
    other.load_state_dict(first.state_dict())
    other._update_count = 1
    assert other.compute() == first.compute()


def test_floats_are_refused_with_the_way_to_convert_them():
    metric = metric_of(ImagingQuality)
    with pytest.raises(UserError, match=r"float32: wanted torch.uint8 .*255 \* video"):
        metric.update(noise().float() / 255)
    metric.update((255 * (noise().float() / 255)).round().to(torch.uint8))
    other = metric_of(ImagingQuality)
    other.update(noise())
    assert metric.compute() == other.compute()


def flat(level: int, frames: int) -> torch.Tensor:
    return torch.full((frames, 3, 128, 130), level, dtype=torch.uint8)


def subject_trace(angles: list[float]) -> Trace:
    """Features that turn by so many degrees since the first frame."""
    radians = np.radians([0, *angles])
    features = np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)
    return Trace(24.0, len(features), 40, 56, {"subject": Series.of_every_frame(features)})


def motion_trace(frames: int, pairs: int) -> Trace:
    motion = Series(np.zeros(pairs, np.float32), 3 * np.arange(1, pairs + 1), (-3,))
    return Trace(24.0, frames, 480, 832, {"dynamic": motion})


def test_imaging_is_the_mean_over_videos_of_the_mean_over_frames():
    metric = metric_of(ImagingQuality)
    metric.update(flat(51, 9))
    metric.update(flat(153, 2))
    assert metric.compute().item() == pytest.approx((0.2 + 0.6) / 2, abs=1e-6)


def test_by_frame_a_long_video_weighs_more():
    still, turned = subject_trace([0, 0, 0]), subject_trace([90])
    by_video, by_frame = SubjectConsistency(), SubjectConsistency(average="frame")
    for metric in (by_video, by_frame):
        metric.update(still)
        metric.update(turned)
    assert by_video.compute().item() == pytest.approx((1 + 0) / 2, abs=1e-6)
    assert by_frame.compute().item() == pytest.approx(3 / 4, abs=1e-6)


def test_a_trace_and_the_frames_it_is_of_score_the_same():
    metric = metric_of(ImagingQuality)
    metric.update(Trace(24.0, 2, 40, 56, {"imaging": Series.of_every_frame(np.array([20.0, 20.0], np.float32))}))
    measured = metric.compute().item()
    metric.reset()
    metric.update(flat(51, 2))
    assert metric.compute().item() == pytest.approx(measured, abs=1e-6)


def test_one_frame_never_moves_and_two_sampled_frames_always_do_as_in_vbench():
    metric = DynamicDegree()
    metric.update(motion_trace(1, 0))
    assert metric.compute() == 0
    metric.update(motion_trace(4, 1))
    assert metric.compute() == 0.5


def test_a_video_too_short_is_refused_in_one_line():
    with pytest.raises(UserError, match="2 frames is too short for MotionSmoothness"):
        metric_of(MotionSmoothness).update(flat(9, 2))


def test_without_a_probe_only_traces_are_scored():
    with pytest.raises(UserError, match=r"SubjectConsistency was made without a probe.*from_weights"):
        SubjectConsistency().update(noise())


def test_a_score_that_is_not_finite_is_refused():
    broken = Trace(24.0, 2, 40, 56, {"imaging": Series.of_every_frame(np.array([20.0, np.nan], np.float32))})
    with pytest.raises(UserError, match="wanted a finite number"):
        ImagingQuality().update(broken)


def test_without_a_video_there_is_no_score():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert SubjectConsistency().compute().isnan()


def test_absent_weights_are_named(tmp_path):
    with pytest.raises(UserError, match=r"dino_vitbase16_pretrain.pth not in"):
        SubjectConsistency.from_weights(tmp_path)


def test_every_metric_says_which_way_is_good():
    assert all(metric.higher_is_better for metric in VBENCH)
    assert all(issubclass(metric, VideoMetric) for metric in VBENCH)
