"""Probes: what they see does not depend on chunks, on memory order, or on the video before."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from mpgen.errors import UserError
from mpgen.evaluation.frames import Frames, Probe
from mpgen.evaluation.metric import measure
from mpgen.evaluation.trace import Series
from mpgen.evaluation.vbench.frame_probes import AestheticProbe, BackgroundProbe, ImagingProbe, SubjectProbe
from mpgen.evaluation.vbench.metrics import VBENCH, DynamicDegree
from mpgen.evaluation.vbench.motion_probes import DynamicProbe, SmoothnessProbe, fastest, margins
from mpgen.evaluation.vbench.networks.amt import AmtS
from mpgen.evaluation.vbench.networks.clip import AestheticHead, ClipImage
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.networks.musiq import Musiq
from mpgen.evaluation.vbench.networks.raft import Raft
from mpgen.evaluation.vbench.precision import prepared
from mpgen.evaluation.vbench.randomise import randomise


def made(network: nn.Module, gain: float = 2.0) -> nn.Module:
    randomise(network, 1, gain)
    return prepared(network, "fp32")


def tiny_clip() -> ClipImage:
    return ClipImage(patch_px=56, width=12, depth=2, num_heads=2, embedding=5)


class Shift(Raft):
    """In RAFT's place: the change of the mean since the frame before, as a flow to the right."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.seen: list[int] = []

    def features(self, frames: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(frames))
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


def all_probes() -> list[Probe]:
    return [
        SubjectProbe(made(Dino(width=24, depth=2, num_heads=2))),
        BackgroundProbe(made(tiny_clip())),
        AestheticProbe(made(tiny_clip()), made(AestheticHead(5))),
        ImagingProbe(made(Musiq(width=24, depth=2, num_heads=3, inner=20), 1.5)),
        DynamicProbe(Shift()),
        SmoothnessProbe(Halfway()),
    ]


def video(frames: int, height: int = 131, width: int = 140, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, height, width), generator=generator, dtype=torch.uint8)


def measured(probe: Probe, pixels: torch.Tensor, fps: float, chunk_frames: int = 8) -> Series:
    return measure(probe, pixels, fps, chunk_frames)[probe.name]


def assert_equal(one: Series, other: Series) -> None:
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.frame, other.frame)
    assert one.others == other.others


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_chunks_of_any_size_give_the_same_numbers(probe):
    pixels = video(9)
    whole = measured(probe, pixels, 24.0, chunk_frames=64)
    for chunk in (1, 7):
        assert_equal(measured(probe, pixels, 24.0, chunk_frames=chunk), whole)


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_nothing_is_kept_from_the_video_before(probe):
    first = measured(probe, video(5), 24.0)
    measured(probe, video(6, 140, 150, seed=1), 8.0)
    assert_equal(measured(probe, video(5), 24.0), first)


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_an_abandoned_video_leaves_no_trace(probe):
    first = measured(probe, video(3), 8.0)
    probe.begin(8.0, 131, 140)
    abandoned = video(2, seed=2)
    for frame in range(2):
        probe.feed(_frames(abandoned[frame : frame + 1], frame))
    assert_equal(measured(probe, video(3), 8.0), first)


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_a_probe_can_be_pickled_after_a_video(probe):
    first = measured(probe, video(3), 8.0)
    assert_equal(measured(pickle.loads(pickle.dumps(probe)), video(3), 8.0), first)


def _frames(pixels: torch.Tensor, first: int) -> Frames:
    return Frames(pixels, first, 8.0, False)


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_a_video_of_one_frame_has_rows_or_none_but_does_not_fail(probe):
    assert len(measured(probe, video(1), 24.0).values) == (0 if probe.name in ("dynamic", "smoothness") else 1)


@pytest.mark.parametrize(
    ("fps", "frames"), [(24.0, [3, 6, 9]), (20.0, [2, 4, 6, 8, 10]), (60.0, [8]), (3.0, [*range(1, 12)])]
)
def test_motion_is_between_frames_an_eighth_of_a_second_apart_by_vbenchs_rounding(fps, frames):
    assert measured(DynamicProbe(Shift()), video(12), fps).frame.tolist() == frames


def test_features_of_a_frame_are_computed_once():
    network = Shift()
    measured(DynamicProbe(network), video(9), 8.0)
    assert sum(network.seen) == 9


def test_frames_too_small_for_a_network_are_refused_in_one_line():
    with pytest.raises(UserError, match="300x100 are too small for RAFT"):
        DynamicProbe(Shift()).begin(24.0, 100, 300)
    with pytest.raises(UserError, match="100x300 are too small for AMT"):
        SmoothnessProbe(Halfway()).begin(24.0, 300, 100)
    DynamicProbe(Shift()).begin(24.0, 121, 300)  # padded to a multiple of 8 first, as in VBench
    SmoothnessProbe(Halfway()).begin(24.0, 113, 300)


def test_the_fastest_twentieth_counts():
    flow = torch.zeros(1, 2, 20, 10)
    flow[0, 0, 0], flow[0, 1, 0] = 3, 4  # a twentieth of the rows
    assert fastest(flow).item() == pytest.approx(5)


def test_a_guess_that_is_right_but_for_truncation_scores_one():
    ramp = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(7, 3, 128, 130) * 20
    series = measured(SmoothnessProbe(Halfway()), ramp, 24.0)
    np.testing.assert_allclose(series.values, 1, atol=1.01 / 255)
    assert series.frame.tolist() == [1, 3, 5]


def test_the_last_frame_of_an_even_number_is_not_guessed():
    changed = video(6)
    changed[5] = 0
    assert_equal(*(measured(SmoothnessProbe(Halfway()), pixels, 24.0) for pixels in (video(6), changed)))


def test_margins_lie_on_both_sides_the_odd_pixel_after():
    assert margins(480, 832, 16) == (0, 0, 0, 0)
    assert margins(13, 18, 8) == (3, 3, 1, 2)


def test_two_probes_resize_once(count_calls):
    first = BackgroundProbe(made(tiny_clip()))
    second = AestheticProbe(made(tiny_clip()), made(AestheticHead(5)))
    for probe in (first, second):
        probe.begin(24.0, 131, 140)
    resized = count_calls(type(first._resize), "__call__")
    frames = _frames(video(3), 0)
    first.feed(frames)
    second.feed(frames)
    assert len(resized) == 3


def test_bf16_scores_are_near_fp32_scores():
    pixels = video(3)
    for network, make in ((Dino(width=24, depth=2, num_heads=2), SubjectProbe), (tiny_clip(), BackgroundProbe)):
        exact = measured(make(made(network)), pixels, 24.0).values
        near = measured(make(prepared(network, "bf16"), "bf16"), pixels, 24.0).values
        assert near.dtype == np.float32
        assert not np.array_equal(near, exact)
        cosine = (near * exact).sum(1) / np.linalg.norm(near, axis=1) / np.linalg.norm(exact, axis=1)
        assert cosine.min() > 0.999


def test_every_metric_says_what_its_probe_and_weights_are():
    for metric in VBENCH:
        files = {published.name: None for published in metric.networks}
        assert metric.probe_source("random", "fp32").weights.keys() == files.keys()
    assert len({metric.name for metric in VBENCH}) == 6


def test_a_probe_of_random_weights_says_the_same_every_time():
    one, other = (DynamicDegree.build_probe({"raft": None}).state_dict() for _ in range(2))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor)
