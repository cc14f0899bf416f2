"""Laws of what needs no weights: each number shows its own fault, and the chunk changes nothing."""

import numpy as np
import pytest
import torch

from mpgen.evaluation import reduce
from mpgen.evaluation.frames import Frames, Probe
from mpgen.evaluation.proxies import Proxies, Strip
from mpgen.evaluation.trace import Trace


def look(probe: Probe, frames: np.ndarray, chunk: int = 7) -> dict[str, np.ndarray]:
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    probe.begin(24.0, *frames.shape[1:3])
    for first in range(0, len(frames), chunk):
        probe.feed(Frames(pixels[first : first + chunk], first, 24.0, first + chunk >= len(frames)))
    return probe.finish()


def traced(frames: np.ndarray) -> Trace:
    return Trace(24.0, len(frames), *frames.shape[1:3], look(Proxies(), frames))


@pytest.mark.parametrize("probe", [Proxies(), Strip()])
def test_the_chunk_changes_nothing_and_neither_does_the_video_before(probe, moving):
    whole = look(probe, moving(70), 64)
    look(probe, moving(9, 24, 32, seed=3), 2)
    for chunk in (1, 7):
        other = look(probe, moving(70), chunk)
        assert whole.keys() == other.keys()
        for name in whole:
            np.testing.assert_array_equal(whole[name], other[name])


def test_a_frozen_frame_is_not_counted_as_motion(moving):
    still = np.repeat(moving(1), 12, 0)
    assert (look(Proxies(), still)["proxies/motion"] == 0).all()
    trace = traced(moving(12))
    assert (trace["proxies/motion"] > 0.005).all()
    assert trace.frame_of("proxies/motion").tolist() == list(range(1, 12))
    assert reduce.structural_consistency(traced(still)).value == pytest.approx(1)
    assert reduce.structural_consistency(trace).value < 0.99


def test_a_darker_picture_is_darker_and_its_structure_the_same(moving):
    bright, dark = moving(1), (moving(1) * 0.6).astype(np.uint8)
    trace = traced(np.concatenate([bright, dark]))
    assert trace["proxies/luminance"][1] == pytest.approx(0.6 * trace["proxies/luminance"][0], rel=0.02)
    assert trace["proxies/contrast"][1] == pytest.approx(0.6 * trace["proxies/contrast"][0], rel=0.02)
    assert reduce.structural_consistency(trace).value > 0.998


def test_blur_lowers_sharpness_and_grey_has_no_saturation(moving):
    sharp = moving(1).astype(float)
    soft = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 1, 2) + np.roll(sharp, (1, 1), (1, 2))) / 4
    grey = np.repeat(sharp.mean(-1, keepdims=True), 3, -1)
    arrays = look(Proxies(), np.concatenate([sharp, soft, grey]).astype(np.uint8))
    assert arrays["proxies/sharpness"][1] < 0.8 * arrays["proxies/sharpness"][0]
    assert arrays["proxies/saturation"][2] == 0
    assert arrays["proxies/saturation"][0] > 0.1


def test_a_shift_of_colour_is_measured_as_a_share_of_the_range():
    frames = np.full((3, 8, 8, 3), 100, np.uint8)
    frames[1:, :, :, 0] += 51
    assert reduce.colour_shift(traced(frames)).series == pytest.approx([0.2 / 3**0.5] * 2, abs=1e-6)


def test_black_and_tiny_and_single_frames_have_finite_numbers():
    for shape in ((4, 16, 16, 3), (2, 1, 2, 3), (1, 5, 3, 3)):
        arrays = look(Proxies(), np.zeros(shape, np.uint8))
        assert all(np.isfinite(rows).all() for rows in arrays.values())
    assert reduce.structural_consistency(traced(np.zeros((4, 16, 16, 3), np.uint8))).value == pytest.approx(1)
    assert len(look(Proxies(), np.zeros((1, 8, 8, 3), np.uint8))["proxies/motion"]) == 0


@pytest.mark.parametrize("num_frames", [1, 2, 5, 33, 200])
def test_the_strip_has_the_first_and_the_last_frame_and_some_between(num_frames):
    levels = np.broadcast_to(np.arange(num_frames, dtype=np.uint8)[:, None, None, None], (num_frames, 4, 6, 3))
    arrays = look(Strip(), levels.copy())
    shown = arrays["strip/frame"]
    assert arrays["strip/pictures"][:, 0, 0, 0].tolist() == shown.tolist()
    assert (shown[0], shown[-1], len(shown)) == (0, num_frames - 1, min(num_frames, 5))
    assert np.abs(shown - np.linspace(0, num_frames - 1, len(shown))).max() <= num_frames / 16


def test_the_strip_is_small():
    assert look(Strip(), np.zeros((2, 300, 600, 3), np.uint8))["strip/pictures"].shape == (2, 96, 192, 3)
