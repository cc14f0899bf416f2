"""Laws of sums and of the command: counts, intervals, and every video either scored or listed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mpgen.errors import UserError
from mpgen.video.writing import VideoWriter
from mpgen.world.scoring.aggregate import estimate, recall_bins, section_curves, shuffled_identities, summarise
from mpgen.world.scoring.evaluate import copy_last, score_world
from mpgen.world.scoring.video import score_video
from mpgen.world.settings import WorldSettings
from mpgen.world.writer import render_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    render_world(WorldSettings(size_px=48, train_videos=0, val_videos=4, pixel_frames=(97,)), root, processes=1)
    return root


@pytest.fixture
def videos(world, tmp_path):
    shutil.copytree(world / "videos", tmp_path / "videos")
    return tmp_path / "videos"


def write(path, frames):
    with VideoWriter(path, 24, frames.shape[1], frames.shape[2]) as video:
        for frame in frames:
            video.write(frame)


def test_an_estimate_is_the_mean_with_a_normal_interval():
    values = [1.0, 0.0, 1.0, 1.0, float("nan")]
    found = estimate(values)
    assert (found.mean, found.count) == (0.75, 4)
    assert found.half_width == pytest.approx(1.96 * np.std(values[:4], ddof=1) / 2)
    assert estimate([2.0]).half_width is None
    assert estimate([]) is None


def test_sums_count_every_video_once_in_its_family_and_once_in_all(stories):
    scores = [score_video(s.frames, s.truth, s.frames) for s in stories.values()]
    row = summarise(scores)["first section: video right"]
    families = set(stories) - {"curtain"}  # where nothing is in sight at first
    assert {family: value.count for family, value in row.items()} == dict.fromkeys(families, 1) | {"all": 4}
    assert row["all"].mean == 1
    assert "recall: colour (seen in true frames)" not in summarise(scores)
    assert [value.mean for value in section_curves(scores)["found"]] == [1] * 8


def test_objects_that_fade_away_drift(stories):
    story = stories["steady"]
    faded = story.frames.copy()
    faded[-40:] = faded[:1] * 0 + 90
    true, gone = (summarise([score_video(f, story.truth, story.frames)]) for f in (story.frames, faded))
    assert true["objects found: drift"]["all"].mean == 0
    assert gone["objects found: drift"]["all"].mean == -1


def test_recall_is_sorted_by_hidden_time(stories):
    story = stories["occlude"]
    scores = [score_video(story.frames, story.truth, story.frames, story.truth.witness_frames)]
    (found,) = recall_bins(scores)
    assert found.low <= scores[0].recalls[0].hidden_seconds < found.high
    assert (found.colour.mean, found.colour.count, found.identity.mean) == (1, 1, 1)


def test_shuffled_things_come_from_another_video_however_often_each_comes_back(stories):
    story = stories["occlude"]
    scores = score_video(story.frames, story.truth, story.frames, story.truth.witness_frames)
    (recall,) = scores.recalls
    red, blue = (replace(recall, seen_colour=colour) for colour in ("red", "blue"))
    none, often, once = (replace(scores, recalls=recalls) for recalls in ((), (red, red, red), (blue,)))
    shuffled = shuffled_identities([none, often, once])
    assert [len(video.recalls) for video in shuffled] == [0, 3, 1]
    assert not any(recall.colour_right or recall.identity_right for video in shuffled for recall in video.recalls)
    same = shuffled_identities([often, none, often])
    assert all(recall.identity_right for video in same for recall in video.recalls)
    assert not any(video.recalls for video in shuffled_identities([none, often]))  # there is no other


def test_the_copy_shows_the_last_given_frame_for_ever():
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    assert copy_last(frames, 3)[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2]


def test_true_videos_get_full_marks(world, videos, tmp_path, capsys):
    (videos / "val_00001_panback.json").write_text('{"context_frames": 40, "section_frames": 8}')
    record = json.loads(json.dumps(score_world(world, videos, tmp_path / "out", 16, True), allow_nan=False))
    assert record["summary"]["generated"] == record["summary"]["truth"]
    assert record["summary"]["generated"]["first section: video right"]["all"]["mean"] == 1
    assert record["summary"]["copy"]["first section: moved as told"]["all"]["mean"] == 0
    by_family = {video["family"]: video for video in record["videos"]}
    assert (by_family["panback"]["context_frames"], by_family["panback"]["section_frames"]) == (40, 8)
    assert (by_family["bounce"]["context_frames"], by_family["bounce"]["section_frames"]) == (1, 16)
    assert record["skipped"] == []
    assert "4 videos scored, 0 skipped" in capsys.readouterr().out
    for name in ("curves.png", "recall.png"):
        assert (tmp_path / "out" / name).stat().st_size > 5000


def test_what_cannot_be_scored_is_listed_and_the_rest_is_scored(world, videos, tmp_path, capsys):
    shutil.copy(videos / "val_00000_occlude.mp4", videos / "holiday.mp4")
    write(videos / "val_00001_panback.mp4", np.zeros((5, 32, 64, 3), np.uint8))
    write(videos / "val_00002_steady.mp4", np.zeros((1, 48, 48, 3), np.uint8))
    (videos / "val_00003_bounce.json").write_text("[1]")
    record = score_world(world, videos, tmp_path / "out", 16, False)
    skipped = {one["video"]: one["reason"] for one in record["skipped"]}
    assert "no truth" in skipped["holiday.mp4"]
    assert "64x32" in skipped["val_00001_panback.mp4"]
    assert "too short" in skipped["val_00002_steady.mp4"]
    assert "context_frames" in skipped["val_00003_bounce.mp4"]
    assert len(skipped) == 4
    assert "1 videos scored, 4 skipped" in capsys.readouterr().out


def test_a_broken_video_is_listed(world, videos, tmp_path):
    (videos / "val_00003_bounce.mp4").write_bytes(b"no video")
    (skipped,) = score_world(world, videos, tmp_path / "out", 16, False)["skipped"]
    assert skipped["video"] == "val_00003_bounce.mp4"


def test_folders_without_a_pair_get_one_line(world, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no mp4 file"):
        score_world(world, tmp_path / "empty", tmp_path / "out", 16, True)
    with pytest.raises(UserError, match="`truth`"):
        score_world(tmp_path / "empty", world / "videos", tmp_path / "out", 16, True)
    shutil.copy(world / "videos" / "val_00003_bounce.mp4", tmp_path / "empty" / "other.mp4")
    with pytest.raises(UserError, match="none of 1 videos could be scored"):
        score_world(world, tmp_path / "empty", tmp_path / "out", 16, True)
    assert not (tmp_path / "out").exists()
