"""Laws of `mpgen evaluate`: a folder in, a page out; bad files are lines, absent weights are said, shares add up."""

import csv
import json
import os
import shutil

import numpy as np
import pytest

from mpgen.errors import UserError
from mpgen.evaluation import runner
from mpgen.evaluation.command import evaluate
from mpgen.evaluation.report.paper import TABLE_1
from mpgen.video.writing import VideoWriter
from mpgen.world.settings import WorldSettings
from mpgen.world.writer import render_world


@pytest.fixture
def videos(write, moving, tmp_path):
    folder = tmp_path / "videos"
    write(folder / "ours" / "steady.mp4", moving(60))
    write(folder / "ours" / "fading.mp4", moving(60, fade=0.7))
    write(folder / "other" / "one.mp4", moving(1))
    write(folder / "other" / "odd.mp4", moving(30, 33, 47))
    (folder / "other" / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("x")
    return folder


def record_of(output) -> dict:
    return json.loads((output / "scores.json").read_text())["evaluation"]


def test_a_folder_is_scored_on_a_bare_machine(videos, tmp_path, capsys):
    evaluate(videos, tmp_path / "out")
    record = record_of(tmp_path / "out")
    by_name = {video["name"]: video for video in record["videos"]}
    assert set(by_name) == {"ours/steady", "ours/fading", "other/one", "other/odd"}
    assert by_name["ours/fading"]["drift"]["luminance"]["delta"] < -0.2
    assert abs(by_name["ours/steady"]["drift"]["luminance"]["delta"]) < 0.01
    assert "motion" not in by_name["other/one"]["scores"]
    assert {one["video"].removesuffix(".mp4") for one in record["skipped"]} == {"other/broken", "notes.txt"}
    assert set(record["absent"]) == {"imaging", "aesthetic", "dynamic", "smoothness", "background", "subject"}
    assert {(group["method"], group["length"]) for group in record["groups"]} == {
        ("ours", "2 s"),
        ("ours", "all"),
        ("other", "1 s"),
        ("other", "all"),
    }
    assert "15 %" in record["drift_convention"]
    out = capsys.readouterr().out
    assert "absent: imaging" in out
    assert "|Δ| Luminance" in out
    rows = list(csv.DictReader((tmp_path / "out" / "videos.csv").read_text(encoding="utf-8").splitlines()))
    assert float(next(r for r in rows if r["name"] == "ours/fading")["delta_luminance"]) < -0.2


def test_the_page_is_one_file_with_the_papers_rows_and_escapes_names(videos, tmp_path, write, moving):
    (videos / "ours" / "steady.json").write_text(json.dumps({"prompt": "<script>alert(1)</script>"}))
    evaluate(videos, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(row.method in page for row in TABLE_1)
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/jpeg") == 4
    outside = [word for word in ("http://", "https://", 'src="/', "<link", "@import", "url(") if word in page]
    assert outside == []
    assert page.index("ours/fading") < page.index("<b>ours/<wbr>steady")  # worst first


def test_the_same_command_goes_on_where_it_stopped(videos, tmp_path, count_calls):
    decodes = count_calls(runner, "FrameStream")
    evaluate(videos, tmp_path / "out")
    assert len(decodes) == 5
    before = record_of(tmp_path / "out")
    evaluate(videos, tmp_path / "out", drift_fraction=0.3)
    assert len(decodes) == 6  # the broken one is tried again
    after = record_of(tmp_path / "out")
    # The worst video comes first, which depends on the drift: no order to compare.
    kept, found = ({video["name"]: video["scores"] for video in record["videos"]} for record in (before, after))
    assert kept == found
    assert "30 %" in after["drift_convention"]


def test_parts_look_at_every_video_once_and_the_report_comes_after(videos, tmp_path, count_calls, capsys):
    for index in (1, 2, 3):
        evaluate(videos, tmp_path / "out", part=f"{index}/3")
    assert not (tmp_path / "out" / "report.html").exists()
    lines = [
        line for log in (tmp_path / "out").glob("results.part_*_of_3.jsonl") for line in log.read_text().splitlines()
    ]
    assert sorted(json.loads(line).get("name", "broken") for line in lines) == [
        "broken",
        "other/odd",
        "other/one",
        "ours/fading",
        "ours/steady",
    ]
    decodes = count_calls(runner, "FrameStream")
    evaluate(videos, tmp_path / "out")
    assert len(decodes) == 1
    assert len(record_of(tmp_path / "out")["videos"]) == 4


def test_a_video_counts_only_when_it_is_as_long_as_was_promised(tmp_path, write_tagged, write, moving, capsys):
    """What a killed generation leaves is a playable mp4 without its JSON; its own settings promise the whole."""
    folder = tmp_path / "videos"
    card = {"mpgen": "0.1.0", "context_frames": 1, "num_sections": 4, "section_frames": 8}
    for name, frames in (("stump", 21), ("whole", 33)):
        with VideoWriter(folder / f"{name}.mp4", 24, 32, 48, metadata={"comment": json.dumps(card)}) as writer:
            for frame in moving(frames):
                writer.write(frame)
    write(folder / "interrupted.mp4", moving(21))
    (folder / "interrupted.json").write_text(json.dumps(card | {"frames": 21, "interrupted": True}))
    write(folder / "short.mp4", moving(24))
    (tmp_path / "suite.csv").write_text("name,seconds\nstump,\nwhole,1.4\ninterrupted,\nshort,3\n")
    evaluate(folder, tmp_path / "out", metrics="luminance", manifest=tmp_path / "suite.csv")
    record = record_of(tmp_path / "out")
    assert [video["name"] for video in record["videos"]] == ["whole"]
    reasons = {one["video"]: one["reason"] for one in record["skipped"]}
    assert "has 21 of 33 frames" in reasons["stump"]
    assert "has 21 of 33 frames" in reasons["interrupted"]
    assert "has 1.0 of the 3 s that --manifest promises" in reasons["short"]


def test_one_odd_file_costs_itself(tmp_path, write, moving, capsys):
    folder = tmp_path / "videos"
    write(folder / f"{'n' * 251}.mp4", moving(5))
    write(folder / "two.mp4", moving(5, 2, 48))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / f"{'j' * 250}.json").write_text("{}")
    write(folder / "good.mp4", moving(5)).rename(folder / os.fsdecode(b"caf\xe9.mp4"))
    write(folder / "prompt.mp4", moving(5))
    (folder / "prompt.json").write_text('{"prompt": "\\ud800"}')
    evaluate(folder, tmp_path / "out", metrics="proxies")
    record = record_of(tmp_path / "out")
    assert {video["name"] for video in record["videos"]} == {"n" * 251, "two", "prompt", "caf\\udce9"}
    assert {one["video"] for one in record["skipped"]} == {"empty", f"{'j' * 250}.json"}
    assert not any("\n" in one["reason"] for one in record["skipped"])


def test_several_methods_on_the_world_in_one_call(tmp_path, capsys):
    world = tmp_path / "world"
    render_world(WorldSettings(size_px=48, train_videos=0, val_videos=2, pixel_frames=(33,)), world, processes=1)
    for method in ("a", "b"):
        shutil.copytree(world / "videos", tmp_path / "videos" / method)
    one, other = sorted((tmp_path / "videos" / "b").glob("*.mp4"))
    shutil.copy(one, other)  # one of the second method's is another scene
    evaluate(tmp_path / "videos", tmp_path / "out", world=world, metrics="luminance")
    record = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(record["world"]) == {"a", "b"}
    first = [of["summary"]["generated"]["first section: video right"]["all"]["mean"] for of in record["world"].values()]
    assert first == [1, 0.5]
    (paired,) = record["world_differences"]
    assert (paired["first"], paired["second"]) == ("a", "b")
    background = paired["scores"]["background: PSNR (dB)"]
    assert background["count"] == 2
    assert background["low"] < background["mean"] < background["high"] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.index("Against the world") < page.index("<th>b minus a</th>") < page.index("The paper's table")
    assert page.count("data:image/png") == 2  # nothing was hidden: no picture of recall


def test_a_folder_that_cannot_be_made_is_one_line(videos, tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file" / "out", tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match="--output"):
            evaluate(videos, output)


def test_the_manifest_names_methods(videos, tmp_path):
    (tmp_path / "suite.csv").write_text("video,method\nours/steady,A\nours/fading.mp4,B\n")
    evaluate(videos, tmp_path / "out", manifest=tmp_path / "suite.csv", metrics="luminance,structure")
    record = record_of(tmp_path / "out")
    assert {video["method"] for video in record["videos"]} == {"A", "B"}
    assert set(record["videos"][0]["scores"]) == {"luminance", "structure"}


def test_a_tag_that_is_ignored_is_told(tmp_path, write_tagged, moving, capsys):
    (tmp_path / "videos").mkdir()
    write_tagged(tmp_path / "videos" / "a.mp4", moving(5))
    evaluate(tmp_path / "videos", tmp_path / "out", colour="ignore")
    assert "1 of 1 videos are tagged" in capsys.readouterr().out
    evaluate(tmp_path / "videos", tmp_path / "out")
    assert "tagged" not in capsys.readouterr().out


def test_the_world_stands_beside_the_other_scores(tmp_path, capsys):
    world = tmp_path / "world"
    render_world(WorldSettings(size_px=48, train_videos=0, val_videos=4, pixel_frames=(49,)), world, processes=1)
    shutil.copytree(world / "videos", tmp_path / "videos")
    evaluate(tmp_path / "videos", tmp_path / "videos" / "scores", world=world, references=False)
    record = json.loads((tmp_path / "videos" / "scores" / "scores.json").read_text())
    assert record["summary"]["generated"]["first section: video right"]["all"]["mean"] == 1
    assert len(record["evaluation"]["videos"]) == 4
    assert record["evaluation"]["skipped"] == []
    assert (tmp_path / "videos" / "scores" / "curves.png").is_file()
    assert "data:image/png" in (tmp_path / "videos" / "scores" / "report.html").read_text()


def test_wrong_options_get_one_line(videos, tmp_path):
    for options, wanted in (
        ({"part": "3/2"}, "--part 3/2"),
        ({"device": "cuda:99"}, "--device cuda:99"),
        ({"workers": 0}, "--workers 0"),
        ({"metrics": "beauty"}, "beauty"),
        ({"weights": tmp_path / "nope"}, "nope"),
        ({"drift_fraction": 0.0}, "--drift_fraction 0"),
        ({"world": tmp_path / "nope"}, "`truth`"),
    ):
        with pytest.raises(UserError, match=wanted):
            evaluate(videos, tmp_path / "out", **options)
    with pytest.raises(UserError, match="--videos and --output missing"):
        evaluate()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no video"):
        evaluate(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "empty" / "a.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 1 videos could be scored \(a"):
        evaluate(tmp_path / "empty", tmp_path / "out")


def test_weights_are_listed_without_a_video(capsys):
    evaluate(list_weights=True)
    out = capsys.readouterr().out
    assert all(name in out for name in ("dino_vitbase16_pretrain.pth", "amt-s.pth", "CC BY-NC 4.0", "raft-things.pth"))


def test_numbers_of_a_curve_stay_finite(videos, tmp_path):
    evaluate(videos, tmp_path / "out")
    for video in record_of(tmp_path / "out")["videos"]:
        for curve in video["curves"].values():
            assert np.isfinite(curve["means"]).all()
