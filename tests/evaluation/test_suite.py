"""Laws of finding videos: all are found, what is none is listed, and the manifest has the last word."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

from mpgen.data.suite import read_suite
from mpgen.errors import UserError
from mpgen.evaluation.command import evaluate
from mpgen.evaluation.suite import find_videos, length_group
from mpgen.parser import run_function

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    for name in ("ours/a.mp4", "ours/b.MP4", "f1/a.mp4", "top.mov", ".hidden.tmp.mp4", "scores/frame.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "videos" / "ours" / "a.json").write_text('{"prompt": "a cat", "context_frames": 1}')
    (tmp_path / "videos" / "notes.txt").write_text("")
    (tmp_path / "videos" / "other.json").write_text("")
    return tmp_path / "videos"


def test_videos_have_a_method_and_other_files_are_listed(folder):
    found, skipped = find_videos(folder, folder / "scores")
    assert {video.name: video.method for video in found} == {
        "ours/a": "ours",
        "ours/b": "ours",
        "f1/a": "f1",
        "top": "videos",
    }
    assert [video.prompt for video in found if video.name == "ours/a"] == ["a cat"]
    assert [video.generated.given for video in found if video.name == "ours/a"] == [1]
    assert {one.video for one in skipped} == {"notes.txt", "other.json"}


def test_a_broken_sidecar_costs_its_video_only(folder):
    (folder / "f1" / "a.json").write_text("{")
    found, skipped = find_videos(folder, folder / "scores")
    assert len(found) == 3
    assert "f1/a.json" in next(one.reason for one in skipped if one.video == "f1/a.mp4")


def test_the_manifest_says_which_videos_count_and_whose_they_are(folder, tmp_path):
    (tmp_path / "m.csv").write_text("# ours\nname,method,prompt,seconds\nours/a,new,a dog,10\ntop.mov,old,,\nc,,,\n")
    found, skipped = find_videos(folder, folder / "scores", read_suite(tmp_path / "m.csv", "--manifest"))
    assert [(v.name, v.method, v.prompt) for v in found] == [("ours/a", "new", "a dog"), ("top", "old", "")]
    reasons = {one.video: one.reason for one in skipped}
    assert "no such video" in reasons["c"]
    assert reasons["f1/a.mp4"] == "not in the manifest"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("prompt\nx\n", "`name` or `video`"),
        ("name\na\na\n", "row 2: 'a' is there twice"),
        ("name,prompt\n,x\n", "row 1: '' is no name"),
        ("name,seconds\na,long\n", "row 1: seconds 'long'"),
        ("name,seconds\na,-1\n", "row 1: seconds -1"),
    ],
)
def test_a_wrong_manifest_is_told_where(tmp_path, text, wanted):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UserError, match=wanted):
        read_suite(tmp_path / "m.csv", "--manifest")


def test_missing_files_are_told(tmp_path):
    with pytest.raises(UserError, match="nope"):
        read_suite(tmp_path / "nope.csv", "--manifest")
    with pytest.raises(UserError, match="no such folder"):
        find_videos(tmp_path / "nope", tmp_path)


def test_lengths_are_grouped_by_the_nearest():
    groups = {5.04: "5 s", 7: "10 s", 10.04: "10 s", 17: "10 s", 18: "30 s", 40: "30 s", 45: "60 s", 130: "130 s"}
    assert {seconds: length_group(seconds) for seconds in groups} == groups
    assert length_group(0.04) == "1 s"


def test_the_papers_suite_is_60_60_and_40_videos():
    rows = read_suite(ROOT / "configs/evaluate/paper_suite.csv", "--manifest")
    assert Counter(row.seconds for row in rows) == {10: 60, 30: 60, 60: 40}


def test_a_suite_is_drawn_from_the_pictures_that_are_there(tmp_path):
    spec = importlib.util.spec_from_file_location("make_suite", ROOT / "tools/make_suite.py")
    make_suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_suite)
    names = [f"{index:03d}.jpg" for index in range(200)]
    info = tmp_path / "info.json"
    info.write_text(json.dumps([{"image_name": name, "prompt_en": f"prompt {name}"} for name in names]))
    for name in names[:170]:
        (tmp_path / name).write_bytes(b"")
    rows = make_suite.draw(info, tmp_path, 0)
    assert rows == make_suite.draw(info, tmp_path, 0)
    assert len({image for _, image, _, _ in rows}) == len(rows) == 160
    assert all(prompt == f"prompt {image.rsplit('/', 1)[1]}" for _, image, prompt, _ in rows)
    with pytest.raises(UserError, match="none of the 200 pictures"):
        make_suite.draw(info, tmp_path / "nowhere", 0)


def test_the_papers_config_is_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--config", str(ROOT / "configs/evaluate/paper.yaml"), "--videos", "v", "--output", "o"]
    with pytest.raises(UserError, match="--videos v: no such folder"):
        run_function(evaluate, argv, "mpgen evaluate")
