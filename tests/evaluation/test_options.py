"""Every documented option of `mpgen evaluate` works as it is typed."""

import inspect
import json
import shutil

import pytest

from mpgen import cli
from mpgen.evaluation.command import evaluate
from mpgen.world.settings import WorldSettings
from mpgen.world.writer import render_world

OPTIONS = {
    "weights": ["--weights", "random", "--metrics", "imaging"],
    "metrics": ["--metrics", "[luminance,structure]"],
    "manifest": ["--manifest", "suite.csv"],
    "device": ["--device", "cpu"],
    "workers": ["--workers", "1"],
    "precision": ["--precision", "bf16"],
    "part": ["--part", "1/2"],
    "drift_fraction": ["--drift_fraction", "0.3"],
    "drift_reference": ["--drift_reference", "first"],
    "averaging": ["--averaging", "frame"],
    "long": ["--long", "true"],
    "colour": ["--colour", "ignore"],
    "world": ["--world", "world", "--section_frames", "8", "--references", "false"],
    "list_weights": ["--list_weights", "true"],
}
WITH_OTHERS = {"videos", "output", "section_frames", "references"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write, moving):
    folder = tmp_path_factory.mktemp("options")
    settings = WorldSettings(size_px=32, train_videos=0, val_videos=1, pixel_frames=(33,))
    render_world(settings, folder / "world", processes=1)
    shutil.copytree(folder / "world" / "videos", folder / "of_world")
    write(folder / "videos" / "a" / "x.mp4", moving(9, 48, 64))
    (folder / "suite.csv").write_text("name,method\nx,b\n")
    return folder


def test_every_option_is_here():
    assert OPTIONS.keys() | WITH_OTHERS == inspect.signature(evaluate).parameters.keys()


@pytest.mark.parametrize("option", OPTIONS)
def test_the_option_works_as_it_is_typed(option, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    videos = "of_world" if option == "world" else "videos"
    argv = ["evaluate", "--videos", videos, "--output", f"out/{option}"]
    if option != "weights" and option != "metrics":
        argv += ["--metrics", "luminance,motion"]
    monkeypatch.setattr("sys.argv", ["mpgen", *argv, *OPTIONS[option]])
    cli.main()
    said = capsys.readouterr().out
    if option == "list_weights":
        assert "download" in said
    elif option == "part":
        assert "after all parts, for the report" in said
    else:
        record = json.loads((folder / "out" / option / "scores.json").read_text())["evaluation"]
        assert len(record["videos"]) == 1
        assert record["videos"][0]["scores"]
    if option == "weights":
        assert "The networks' scores mean nothing" in said
