"""The tools that look into a model, on models whose answer is known."""

import sys
from pathlib import Path

import pytest
import torch

from mpgen.checkpoints import load_for_generation
from mpgen.errors import UserError
from mpgen.world.settings import WorldSettings
from mpgen.world.writer import render_world

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Videos in which curtains open again or the camera comes back, in sections of 8 frames."""
    folder = tmp_path_factory.mktemp("returns")
    families = {"curtain": 1.0, "occlude": 0.0, "panback": 1.0, "steady": 0.0, "bounce": 0.0}
    settings = WorldSettings(
        size_px=32,
        fps=8,
        train_videos=0,
        val_videos=6,
        pixel_frames=(49,),
        families=families,
        hidden_seconds=(1.0, 2.0),
    )
    render_world(settings, folder, processes=1)
    return folder


@pytest.fixture(scope="module")
def model(trained):
    return load_for_generation(trained, torch.device("cpu"))


def test_at_no_noise_the_estimate_is_the_data_and_a_sample_is_not(world, model, monkeypatch):
    import carried_sharpness as tool

    monkeypatch.setattr(tool, "SIGMAS", (1e-4, 1.0))
    true, own = (tool.watch(model, world, videos=2, sections=3, own=own) for own in (False, True))
    assert true.sharpness["estimate at 0.0001"] == pytest.approx([1.0] * 3, abs=0.01)
    for name in ("estimate at 0.0001", "0.0001 in 4 steps"):
        assert true.error[name] == pytest.approx([0.0] * 3, abs=0.01)
    assert true.error["1.0 in 2 steps"] == pytest.approx(true.error["sample of 2 steps"], rel=1e-4)
    assert min(true.error["sample of 10 steps"]) > 0.1
    assert true.error["sample of 2 steps"][0] == own.error["sample of 2 steps"][0]  # the first has the same past
    assert true.error["sample of 2 steps"][1] != own.error["sample of 2 steps"][1]


def test_too_many_sections_for_the_world_are_refused(world, model):
    import carried_sharpness as tool

    with pytest.raises(UserError, match=r"no held-out video of 81 frames, which 10 sections need \(--sections\)"):
        tool.watch(model, world, videos=2, sections=10, own=False)


def test_a_strip_has_a_row_for_the_truth_and_for_each_folder(world, tmp_path, monkeypatch, capsys):
    import film_strip as tool
    from PIL import Image

    videos, heights = str(world / "videos"), []
    for generated in ([videos], [f"one={videos}", f"two={videos}"]):
        out = tmp_path / "strip.png"
        options = ["--truth", videos, "--generated", *generated, "--output", str(out), "--videos", "1"]
        monkeypatch.setattr(sys, "argv", ["film_strip.py", *options])
        tool.main()
        with Image.open(out) as picture:
            heights.append(picture.height)
        assert capsys.readouterr().out.strip() == str(out)
    assert heights[1] == pytest.approx(heights[0] * 3 / 2, rel=0.05)
    monkeypatch.setattr(sys, "argv", ["film_strip.py", *options[:-1], "0"])
    with pytest.raises(SystemExit, match="--videos 0, --columns 9: at least 1 and 2 are wanted"):
        tool.main()


def test_damaged_videos_are_read_or_refused(tmp_path):
    """Ten of those that tools/fuzz_videos.py makes by the thousand."""
    import fuzz_videos as tool

    files = tool.write_bases(tmp_path / "bases")
    for number in range(10):
        path, *_ = tool.mutate(files, 0, number, tmp_path)
        found, finding = tool.try_readers(path, tmp_path)
        assert finding == "", number
        assert set(found) == set(tool.readers(path, tmp_path))
    assert tool.mutate(files, 0, 3, tmp_path)[0].read_bytes() == tool.mutate(files, 0, 3, tmp_path)[0].read_bytes()


def test_the_caches_are_measured_against_the_video_without_one(trained, monkeypatch, capsys):
    import measure_caches as measure

    monkeypatch.setattr(measure, "FIRST_BLOCK", (0.0, 9.0))
    monkeypatch.setattr(measure, "MAG", (9.0,))
    monkeypatch.setattr(sys, "argv", ["measure_caches", str(trained), "--steps=5", "--sections=1", "--scenes=bounce"])
    measure.main()
    ratios, _, nothing, most, mag = capsys.readouterr().out.splitlines()
    assert len(ratios.split(",")) == 5
    assert [row.split()[2] for row in (nothing, most, mag)] == ["0%", "80%", "60%"]
    assert float(nothing.split()[3]) > 100
