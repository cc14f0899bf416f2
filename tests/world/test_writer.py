"""Laws of a rendered world: it is reproducible, balanced, resumable, and never overwritten by surprise."""

import csv
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import fields

import numpy as np
import pytest

from mpgen.errors import UserError
from mpgen.video.clips import read_video
from mpgen.world.command import world
from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings
from mpgen.world.truth_files import load_truth
from mpgen.world.videos import world_videos
from mpgen.world.writer import render_video, render_world

TINY = WorldSettings(size_px=48, train_videos=3, val_videos=4, pixel_frames=(9, 13), seed=2)


@pytest.fixture
def tiny(tmp_path):
    render_world(TINY, tmp_path / "world", processes=1)
    return tmp_path / "world"


def test_every_video_of_the_manifest_is_there_with_its_truth(tiny):
    with (tiny / "manifest.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert Counter(row["split"] for row in rows) == {"train": 3, "val": 4}
    for row in rows:
        frames = read_video(tiny / row["video"])
        truth = load_truth(tiny / "truth" / (tiny / row["video"]).with_suffix(".json").name)
        assert frames.shape == (int(row["pixel_frames"]), 48, 48, 3)
        assert truth.num_frames == len(frames)
        assert (truth.caption, truth.family) == (row["caption"], row["family"])


def test_a_video_shows_the_scene_of_its_split_and_number(tiny):
    scene = sample_scene(TINY, "steady", 9, (1, 2))
    frames = read_video(tiny / "videos" / "val_00002_steady.mp4")
    assert np.abs(frames.astype(int) - render_scene(scene, 48)).mean() < 3


def test_rendering_again_changes_nothing_and_costs_nothing(tiny):
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*") if path.is_file()}
    assert render_world(TINY, tiny, processes=1).rendered == 0
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*") if path.is_file()} == before


def test_two_processes_make_the_same_world_as_one(tiny, tmp_path):
    assert render_world(TINY, tmp_path / "again", processes=2).rendered == 7
    for path in tiny.rglob("*"):
        other = tmp_path / "again" / path.relative_to(tiny)
        if path.is_file():
            assert path.read_bytes() == other.read_bytes(), path


def test_scenes_always_give_the_same_files_in_whatever_order_they_are_written(tmp_path):
    settings = WorldSettings(size_px=48, train_videos=12, val_videos=0, pixel_frames=(9, 13), seed=2)
    videos, contents = list(world_videos(settings)), defaultdict(set)
    for turn in range(6):  # what the encoder did before must not matter
        random.Random(turn).shuffle(videos)
        for video in videos:
            render_video(settings, tmp_path, video)
            contents[video.name].add((tmp_path / "videos" / f"{video.name}.mp4").read_bytes())
    assert [len(files) for files in contents.values()] == [1] * 12


def test_a_killed_rendering_goes_on_where_it_stopped(tiny):
    kept = tiny / "videos" / "train_00000_occlude.mp4"
    stamp = kept.stat().st_mtime_ns
    (tiny / "world.json").rename(tiny / "world.unfinished.json")
    (tiny / "manifest.csv").unlink()
    (tiny / "videos" / "val_00001_panback.mp4").unlink()
    assert render_world(TINY, tiny, processes=1).rendered == 1
    assert kept.stat().st_mtime_ns == stamp
    assert (tiny / "manifest.csv").is_file()
    assert not (tiny / "world.unfinished.json").exists()


@pytest.mark.parametrize("mark", ["world.json", "world.unfinished.json"])
def test_other_settings_are_refused_with_both_values_unless_told_to_overwrite(tiny, mark):
    (tiny / "world.json").rename(tiny / mark)
    (tiny / "notes.txt").write_text("mine")
    other = WorldSettings(size_px=48, train_videos=0, val_videos=1, pixel_frames=(9, 13), seed=5)
    with pytest.raises(UserError, match=r"seed 2 \(now 5\).*--overwrite"):
        render_world(other, tiny, processes=1)
    assert render_world(other, tiny, processes=1, overwrite=True).rendered == 1
    assert [path.name for path in (tiny / "videos").iterdir()] == ["val_00000_occlude.mp4"]
    assert (tiny / "notes.txt").read_text() == "mine"


def test_held_out_videos_may_have_lengths_of_their_own():
    videos = world_videos(WorldSettings(train_videos=6, val_videos=4, pixel_frames=(9, 13), val_pixel_frames=(21,)))
    lengths = {split: {video.pixel_frames for video in videos if video.split == split} for split in ("train", "val")}
    assert lengths == {"train": {9, 13}, "val": {21}}


def test_held_out_families_occur_equally_often_whatever_is_trained_on():
    videos = world_videos(
        WorldSettings(train_videos=8, val_videos=6, families={"steady": 1.0, "bounce": 3.0, "occlude": 0.0})
    )
    counts = {split: Counter(video.family for video in videos if video.split == split) for split in ("train", "val")}
    assert counts == {"train": {"steady": 2, "bounce": 6}, "val": {"steady": 3, "bounce": 3}}


def test_families_and_lengths_are_spread_evenly():
    families = set(FAMILIES) - {"curtain"}  # which has to be asked for
    videos = world_videos(WorldSettings(train_videos=24, val_videos=32, pixel_frames=(9, 17, 33)))
    val = [video for video in videos if video.split == "val"]
    assert Counter(video.family for video in val) == dict.fromkeys(families, 8)
    train = Counter((video.family, video.pixel_frames) for video in videos if video.split == "train")
    assert train == {(family, length): 2 for family in families for length in (9, 17, 33)}


def test_weights_are_kept_at_every_point_of_the_list():
    videos = world_videos(WorldSettings(train_videos=40, val_videos=0, families={"occlude": 3.0, "bounce": 1.0}))
    for end in range(4, 41, 4):
        assert Counter(video.family for video in videos[:end])["bounce"] == end // 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size_px": 60}, "size_px 60"),
        ({"pixel_frames": (32,)}, "1 \\+ 4k"),
        ({"pixel_frames": (33, 33)}, "each once"),
        ({"length_weights": (1.0,)}, "3 weights"),
        ({"hidden_seconds": (2.0, 1.0)}, "hidden_seconds"),
        ({"families": {}}, "families"),
        ({"train_videos": 0, "val_videos": 0}, "at least one video"),
        ({"fps": 0}, "fps 0"),
    ],
)
def test_wrong_settings_get_one_line_that_says_what_is_wanted(options, words):
    with pytest.raises(UserError, match=words) as error:
        WorldSettings(**options)
    assert "\n" not in str(error.value)


def test_an_unknown_family_in_the_settings_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="panback"):
        render_world(WorldSettings(families={"pan": 1.0}), tmp_path / "world")
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda record: record.pop("camera"), "'camera' is missing"),
        (lambda record: record["objects"][0]["x"].pop(), "values for"),
        (lambda record: record.update(version=99), "version"),
        (lambda record: record["objects"][0].update(colour="beige"), "'beige'"),
    ],
)
def test_a_damaged_truth_file_is_named_with_what_is_wrong(tiny, damage, words):
    path = next((tiny / "truth").iterdir())
    record = json.loads(path.read_text())
    damage(record)
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=words) as error:
        load_truth(path)
    assert path.name in str(error.value)


def test_the_command_has_the_defaults_of_the_settings():
    defaults = WorldSettings()
    signature = inspect.signature(world).parameters
    for field in fields(WorldSettings):
        if field.name != "families":
            assert signature[field.name].default == getattr(defaults, field.name)


def test_the_command_prints_what_it_made_and_draws_a_contact_sheet(tmp_path, capsys):
    world(tmp_path / "w", size_px=32, train_videos=0, val_videos=4, pixel_frames=(9,), processes=1)
    assert "4 val videos" in capsys.readouterr().out
    assert (tmp_path / "w" / "contact_sheet.png").stat().st_size > 2000


RENDER = """
import sys
from pathlib import Path
from mpgen.world.settings import WorldSettings
from mpgen.world.writer import render_world
if __name__ == "__main__":
    settings = WorldSettings(size_px=48, train_videos=int(sys.argv[2]), val_videos=0, pixel_frames=(241,))
    print(render_world(settings, Path(sys.argv[1]), processes=2).rendered)
"""


@pytest.fixture
def rendering(tmp_path):
    """A process that renders a world with workers of its own."""
    (tmp_path / "render.py").write_text(RENDER)

    def start(num_videos: int) -> subprocess.Popen:
        command = [sys.executable, str(tmp_path / "render.py"), str(tmp_path / "world"), str(num_videos)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def descendants(pid: int) -> set[int]:
    """Processes below one, by the tables of the system."""
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as children:
            below = {int(child) for child in children.read().split()}
        found |= below.union(*(descendants(child) for child in below))
    return found


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(holds, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads Linux' table of processes")
def test_a_killed_parent_leaves_no_process_alive(rendering, tmp_path):
    process = rendering(400)
    wait_until(lambda: (tmp_path / "world" / "videos").is_dir() and any((tmp_path / "world" / "videos").glob("*.mp4")))
    workers = descendants(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(map(alive, workers)), seconds=20)


def test_a_second_rendering_of_one_folder_waits_for_the_first(rendering, tmp_path):
    first = rendering(12)
    wait_until(lambda: (tmp_path / "world" / "world.unfinished.json").is_file())
    second = rendering(12)
    outcomes = [process.communicate(timeout=300) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outcomes
    assert [out.strip() for out, _ in outcomes] == ["12", "0"]
    assert "waits for another process, which renders a world (process" in outcomes[1][1]


def test_a_finished_world_is_used_on_a_disk_that_nobody_may_write_to(tiny, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("mpgen.atomic.os.replace", refuse)
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    assert render_world(TINY, tiny).rendered == 0
