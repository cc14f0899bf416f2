"""Laws of what needs no weights: each number shows its own fault, and the chunk changes nothing."""

import json

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.errors import UserError
from mpgen.evaluation.command import evaluate
from mpgen.evaluation.drift import DriftSettings, drift
from mpgen.evaluation.film_strip import FilmStrip
from mpgen.evaluation.frames import Probe
from mpgen.evaluation.metric import measure
from mpgen.evaluation.proxies import (
    PROXIES,
    ColourShift,
    FrameDifference,
    Picture,
    Proxy,
    ProxyProbe,
    StructuralConsistency,
)
from mpgen.evaluation.sidecar import Generated
from mpgen.evaluation.trace import Series, Trace


class Flicker(Proxy):
    """A newcomer's score, all of it: the mean change of brightness over two frames."""

    name, title, higher_is_better = "flicker", "Flicker", False
    frames_before = 2

    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, ""]:
        before, _, now = pictures
        return (now.luma.mean() - before.luma.mean()).abs()


class Nameless(Proxy):
    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, ""]:
        return pictures[-1].luma.mean()


def measured(probe: Probe, frames: np.ndarray, chunk: int = 7) -> Series:
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return measure(probe, pixels, 24.0, chunk)[probe.name]


def traced(frames: np.ndarray) -> Trace:
    series = {proxy.name: measured(ProxyProbe(proxy), frames) for proxy in (*PROXIES, Flicker)}
    return Trace(24.0, len(frames), *frames.shape[1:3], series)


def values_of(frames: np.ndarray) -> dict[str, np.ndarray]:
    return {name: series.values for name, series in traced(frames).series.items()}


@pytest.mark.parametrize(
    "probe", [*(ProxyProbe(proxy) for proxy in (*PROXIES, Flicker)), FilmStrip()], ids=lambda probe: probe.name
)
def test_the_chunk_changes_nothing_and_neither_does_the_video_before(probe, moving):
    whole = measured(probe, moving(70), 64)
    measured(probe, moving(9, 24, 32, seed=3), 2)
    for chunk in (1, 7):
        other = measured(probe, moving(70), chunk)
        np.testing.assert_array_equal(whole.values, other.values)
        np.testing.assert_array_equal(whole.frame, other.frame)


def test_one_class_in_one_file_is_a_new_metric(write, moving, tmp_path):
    flashing = np.repeat(moving(1), 48, 0) // (1 + np.arange(48) // 24)[:, None, None, None].astype(np.uint8)
    write(tmp_path / "videos" / "a.mp4", flashing)
    evaluate(tmp_path / "videos", tmp_path / "out", metrics=f"{__name__}.Flicker,luminance")
    record = json.loads((tmp_path / "out" / "scores.json").read_text())["evaluation"]
    scores = record["videos"][0]["scores"]
    assert set(scores) == {"luminance", "flicker"}
    assert scores["flicker"] == pytest.approx(2 * scores["luminance"] / 3 * 2 / 46, rel=0.1)
    assert "Flicker" in (tmp_path / "out" / "report.html").read_text()
    metric = Flicker()
    metric.update(torch.from_numpy(flashing).permute(0, 3, 1, 2))
    assert metric.compute().item() == pytest.approx(scores["flicker"], rel=0.1)


def test_what_a_proxy_has_seen_is_known_to_drift_without_being_told(moving):
    """Rows at a segment's start compare with frames before it: they belong to no segment."""
    frames = np.concatenate([np.repeat(moving(1), 20, 0), np.repeat(moving(1) // 4, 20, 0)])
    ends = Generated(((0, 20), (20, 40)))
    found = drift(traced(frames), Flicker, ends, DriftSettings(fraction=0.5))
    assert (found.start, found.end) == (0, 0)
    assert traced(frames)["flicker"].values.max() > 0.1


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("beauty", "wanted some of vbench, proxies, imaging"),
        ("nowhere.Flicker", "cannot be imported"),
        ("json.dumps", "is no subclass of"),
        ("mpgen.evaluation.proxies.Proxy", "lacks measure"),
        (f"{__name__}.Nameless", "does not say its name and title"),
    ],
)
def test_a_wrong_metric_is_one_line(name, wanted, tmp_path):
    with pytest.raises(UserError, match=wanted):
        evaluate(tmp_path, tmp_path / "out", metrics=name)


def test_a_frozen_frame_is_not_counted_as_motion(moving):
    still = np.repeat(moving(1), 12, 0)
    assert (traced(still)["motion"].values == 0).all()
    trace = traced(moving(12))
    assert (trace["motion"].values > 0.005).all()
    assert trace["motion"].frame.tolist() == list(range(1, 12))
    assert StructuralConsistency.score(traced(still)).value == pytest.approx(1)
    assert StructuralConsistency.score(trace).value < 0.99


def test_a_darker_picture_is_darker_and_its_structure_the_same(moving):
    bright, dark = moving(1), (moving(1) * 0.6).astype(np.uint8)
    trace = traced(np.concatenate([bright, dark]))
    assert trace["luminance"].values[1] == pytest.approx(0.6 * trace["luminance"].values[0], rel=0.02)
    assert trace["contrast"].values[1] == pytest.approx(0.6 * trace["contrast"].values[0], rel=0.02)
    assert StructuralConsistency.score(trace).value > 0.998


def test_blur_lowers_sharpness_and_grey_has_no_saturation(moving):
    sharp = moving(1).astype(float)
    soft = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 1, 2) + np.roll(sharp, (1, 1), (1, 2))) / 4
    grey = np.repeat(sharp.mean(-1, keepdims=True), 3, -1)
    arrays = values_of(np.concatenate([sharp, soft, grey]).astype(np.uint8))
    assert arrays["sharpness"][1] < 0.8 * arrays["sharpness"][0]
    assert arrays["saturation"][2] == 0
    assert arrays["saturation"][0] > 0.1


def test_a_shift_of_colour_is_measured_as_a_share_of_the_range():
    frames = np.full((3, 8, 8, 3), 100, np.uint8)
    frames[1:, :, :, 0] += 51
    assert ColourShift.score(traced(frames)).series == pytest.approx([0.2 / 3**0.5] * 2, abs=1e-6)


def test_black_and_tiny_and_single_frames_have_finite_numbers():
    for shape in ((4, 16, 16, 3), (2, 1, 2, 3), (1, 5, 3, 3)):
        arrays = values_of(np.zeros(shape, np.uint8))
        assert all(np.isfinite(rows).all() for rows in arrays.values())
    assert StructuralConsistency.score(traced(np.zeros((4, 16, 16, 3), np.uint8))).value == pytest.approx(1)
    assert len(traced(np.zeros((1, 8, 8, 3), np.uint8))[FrameDifference.name].values) == 0


@pytest.mark.parametrize("num_frames", [1, 2, 5, 33, 200])
def test_the_strip_has_the_first_and_the_last_frame_and_some_between(num_frames):
    levels = np.broadcast_to(np.arange(num_frames, dtype=np.uint8)[:, None, None, None], (num_frames, 4, 6, 3))
    strip = measured(FilmStrip(), levels.copy())
    shown = strip.frame
    assert strip.values[:, 0, 0, 0].tolist() == shown.tolist()
    assert (shown[0], shown[-1], len(shown)) == (0, num_frames - 1, min(num_frames, 5))
    assert np.abs(shown - np.linspace(0, num_frames - 1, len(shown))).max() <= num_frames / 16


def test_the_strip_is_small():
    assert measured(FilmStrip(), np.zeros((2, 300, 600, 3), np.uint8)).values.shape == (2, 96, 192, 3)
