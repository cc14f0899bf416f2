"""Probes: what they see does not depend on chunks, on memory order, or on the video before."""

import numpy as np
import pytest
import torch
from torch import nn

from mpgen.errors import UserError
from mpgen.evaluation.frames import Frames, Probe
from mpgen.evaluation.metrics import look
from mpgen.evaluation.motion import DynamicProbe, SmoothnessProbe, fastest, margins
from mpgen.evaluation.nets.amt import AmtS
from mpgen.evaluation.nets.clip import AestheticHead, ClipImage
from mpgen.evaluation.nets.dino import Dino
from mpgen.evaluation.nets.musiq import Musiq
from mpgen.evaluation.nets.raft import Raft
from mpgen.evaluation.precision import prepared
from mpgen.evaluation.probes import PROBES, AestheticProbe, BackgroundProbe, ImagingProbe, SquareView, SubjectProbe
from mpgen.evaluation.weights import SPECS, randomise


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
    view = SquareView()
    return [
        SubjectProbe(made(Dino(width=24, depth=2, num_heads=2))),
        BackgroundProbe(made(tiny_clip()), "fp32", view),
        AestheticProbe(made(tiny_clip()), made(AestheticHead(5)), "fp32", view),
        ImagingProbe(made(Musiq(width=24, depth=2, num_heads=3, inner=20), 1.5)),
        DynamicProbe(Shift()),
        SmoothnessProbe(Halfway()),
    ]


def video(frames: int, height: int = 131, width: int = 140, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_chunks_of_any_size_give_the_same_numbers(probe):
    pixels = video(9)
    whole = look(probe, pixels, 24.0, chunk_frames=64).arrays
    for chunk in (1, 7):
        parts = look(probe, pixels, 24.0, chunk_frames=chunk).arrays
        assert parts.keys() == whole.keys()
        for name, rows in whole.items():
            np.testing.assert_array_equal(parts[name], rows, err_msg=name)


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_nothing_is_kept_from_the_video_before(probe):
    first = look(probe, video(5), 24.0).arrays
    look(probe, video(6, 140, 150, seed=1), 8.0)
    again = look(probe, video(5), 24.0).arrays
    for name, rows in first.items():
        np.testing.assert_array_equal(again[name], rows)


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_an_abandoned_video_leaves_no_trace(probe):
    first = look(probe, video(3), 8.0).arrays
    probe.begin(8.0, 131, 140)
    look_at = video(2, seed=2)
    for frame in range(2):
        probe.feed(_frames(look_at[frame : frame + 1], frame))
    again = look(probe, video(3), 8.0).arrays
    for name, rows in first.items():
        np.testing.assert_array_equal(again[name], rows)


def _frames(pixels: torch.Tensor, first: int) -> Frames:
    return Frames(pixels, first, 8.0, False)


@pytest.mark.parametrize("probe", all_probes(), ids=lambda probe: probe.name)
def test_a_video_of_one_frame_has_rows_or_none_but_does_not_fail(probe):
    arrays = look(probe, video(1), 24.0).arrays
    expected = 0 if probe.name in ("dynamic", "smoothness") else 1
    assert all(len(rows) == expected for rows in arrays.values())


@pytest.mark.parametrize(
    ("fps", "frames"), [(24.0, [3, 6, 9]), (20.0, [2, 4, 6, 8, 10]), (60.0, [8]), (3.0, [*range(1, 12)])]
)
def test_motion_is_between_frames_an_eighth_of_a_second_apart_by_vbenchs_rounding(fps, frames):
    assert look(DynamicProbe(Shift()), video(12), fps).arrays["dynamic/frame"].tolist() == frames


def test_features_of_a_frame_are_computed_once():
    network = Shift()
    look(DynamicProbe(network), video(9), 8.0)
    assert sum(network.seen) == 9


def test_frames_too_small_for_a_network_are_refused_in_one_line():
    with pytest.raises(UserError, match="100x300 are too small for RAFT"):
        DynamicProbe(Shift()).begin(24.0, 100, 300)
    with pytest.raises(UserError, match="300x100 are too small for AMT"):
        SmoothnessProbe(Halfway()).begin(24.0, 300, 100)
    DynamicProbe(Shift()).begin(24.0, 121, 300)  # padded to a multiple of 8 first, as in VBench
    SmoothnessProbe(Halfway()).begin(24.0, 113, 300)


def test_the_fastest_twentieth_counts():
    flow = torch.zeros(1, 2, 20, 10)
    flow[0, 0, 0], flow[0, 1, 0] = 3, 4  # a twentieth of the rows
    assert fastest(flow).item() == pytest.approx(5)


def test_a_guess_that_is_right_but_for_truncation_scores_one():
    ramp = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(7, 3, 128, 130) * 20
    arrays = look(SmoothnessProbe(Halfway()), ramp, 24.0).arrays
    np.testing.assert_allclose(arrays["smoothness/score"], 1, atol=1.01 / 255)
    assert arrays["smoothness/frame"].tolist() == [1, 3, 5]


def test_the_last_frame_of_an_even_number_is_not_guessed():
    changed = video(6)
    changed[5] = 0
    one, other = (look(SmoothnessProbe(Halfway()), pixels, 24.0).arrays for pixels in (video(6), changed))
    np.testing.assert_array_equal(one["smoothness/score"], other["smoothness/score"])


def test_margins_lie_on_both_sides_the_odd_pixel_after():
    assert margins(480, 832, 16) == (0, 0, 0, 0)
    assert margins(13, 18, 8) == (3, 3, 1, 2)


def test_two_probes_make_one_view(count_calls):
    view = SquareView()
    first = BackgroundProbe(made(tiny_clip()), "fp32", view)
    second = AestheticProbe(made(tiny_clip()), made(AestheticHead(5)), "fp32", view)
    for probe in (first, second):
        probe.begin(24.0, 131, 140)
    resized = count_calls(type(view._resize), "__call__")
    frames = _frames(video(3), 0)
    first.feed(frames)
    second.feed(frames)
    assert len(resized) == 3


def test_bf16_scores_are_near_fp32_scores():
    pixels = video(3)
    for network, make in ((Dino(width=24, depth=2, num_heads=2), SubjectProbe), (tiny_clip(), BackgroundProbe)):
        view = (SquareView(),) if make is BackgroundProbe else ()
        exact = look(make(made(network), "fp32", *view), pixels, 24.0).arrays
        near = look(make(prepared(network, "bf16"), "bf16", *view), pixels, 24.0).arrays
        for name, rows in exact.items():
            assert near[name].dtype == np.float32
            assert not np.array_equal(near[name], rows)
            cosine = (near[name] * rows).sum(1) / np.linalg.norm(near[name], axis=1) / np.linalg.norm(rows, axis=1)
            assert cosine.min() > 0.999


def test_every_probe_is_made_of_listed_weights():
    for name, recipe in PROBES.items():
        assert all(name in SPECS[weights].scores for weights in recipe.networks)
    assert {score for spec in SPECS.values() for score in spec.scores} == set(PROBES)


def test_a_probe_of_random_weights_says_the_same_every_time():
    one, other = (PROBES["dynamic"].build({"raft": None}).state_dict() for _ in range(2))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor)
