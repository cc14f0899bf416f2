"""What becomes of every kind of bad or awkward file: scored, filtered and read by the commands that users run."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from dirty import KINDS, THRESHOLDS, write_dirty
from dirty.films import FPS, HEIGHT_PX, WIDTH_PX, DirtyVideo

from mpgen.data.curate.commands.filter import filter
from mpgen.data.curate.commands.score import score
from mpgen.data.curate.score_files import find_scores, read_scores
from mpgen.data.curate.scores import Meter
from mpgen.data.curate.shots import ShotDetectors
from mpgen.data.curate.sources.clip import SourceClip, write_clips
from mpgen.data.curate.survey import survey_clip
from mpgen.data.manifest import read_manifest
from mpgen.data.records import video_uid
from mpgen.video.clips import decode_clip
from mpgen.video.errors import VideoError


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of all kinds that has been indexed, scored and filtered."""
    data = tmp_path_factory.mktemp("data")
    kinds = write_dirty(data / "videos")
    clips = []
    for row, kind in enumerate(kinds, start=2):
        path = f"videos/{kind.video}"
        captions = {"dense": kind.note}
        uid = video_uid("dirty", path, 0.0, None)
        clips.append(SourceClip(uid, "dirty", kind.video, path, 0.0, None, captions, None, row, kind.video))
    write_clips(data / "index.jsonl", clips)
    score(data, timeout_seconds=300)
    filter(data, thresholds=THRESHOLDS, val_videos=3)
    return data


def rows_by_video(table: Path) -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows[row["video"].removeprefix("videos/")].append(row)
    return rows


def test_the_gallery_plays_what_was_kept_and_what_was_not(data):
    page = (data / "gallery.html").read_text(encoding="utf-8")
    used, left_out = rows_by_video(data / "manifest.csv"), rows_by_video(data / "rejected.csv")
    for reason in {row["reason"] for rows in left_out.values() for row in rows}:
        assert f"rejected: {reason} " in page
    assert {"kept: train ", "kept: val "} <= {text for text in ("kept: train ", "kept: val ") if text in page}
    row = used["ten_bit.mp4"][0]
    assert f'src="videos/ten_bit.mp4#t={float(row["start_seconds"]):g},{float(row["end_seconds"]):g}"' in page


def test_there_are_more_kinds_than_thirty():
    assert len({kind.video for kind, _ in KINDS}) == len(KINDS) >= 30


def test_each_kind_comes_to_what_its_line_says(data):
    """One test for all, so that workers of pytest-xdist do not each make the films."""
    used, left_out = rows_by_video(data / "manifest.csv"), rows_by_video(data / "rejected.csv")
    for kind, _ in KINDS:
        flags = {flag for row in used[kind.video] for flag in row["flags"].split()}
        reasons = {row["reason"] for row in left_out[kind.video]}
        came_to = DirtyVideo(
            kind.video, kind.note, len(used[kind.video]), " ".join(sorted(reasons)), " ".join(sorted(flags))
        )
        assert came_to == kind
        assert all(row["detail"] for row in left_out[kind.video])


def test_all_that_is_used_can_be_decoded_as_the_manifest_says(data):
    manifest = read_manifest(data / "manifest.csv")
    assert not manifest.rejects
    for record in manifest.records:
        clip = decode_clip(record.path, FPS, HEIGHT_PX, WIDTH_PX, record.start_seconds, record.end_seconds)
        assert len(clip) == round((record.end_seconds - record.start_seconds) * FPS), record.path


def test_no_source_video_is_in_two_splits(data):
    records = read_manifest(data / "manifest.csv").records
    split_of = {record.path: record.split for record in records}
    assert sum(split == "val" for split in split_of.values()) == 3
    assert all(split_of[record.path] == record.split for record in records)


def test_filtering_again_gives_the_same_bytes(data):
    before = [(data / name).read_bytes() for name in ("manifest.csv", "rejected.csv")]
    filter(data, thresholds=THRESHOLDS, val_videos=3)
    assert [(data / name).read_bytes() for name in ("manifest.csv", "rejected.csv")] == before


@pytest.mark.parametrize("video", ["cut_after_index.mp4", "damaged_end.mp4", "gap.mp4", "cut_early.mp4"])
def test_a_bad_file_is_judged_the_same_each_time(data, video):
    known = {scored.uid: scored.outcome for scored in read_scores(find_scores(data, None)).values()}
    path = f"videos/{video}"
    assert survey_clip(data / path, 0, None, [Meter(), ShotDetectors()]) == known[video_uid("dirty", path, 0.0, None)]


def test_scoring_goes_on_where_it_was_killed(data, capsys):
    (file,) = find_scores(data, None).glob("part_*.jsonl")
    whole = file.read_text()
    file.write_text(whole[:-100])  # in the middle of the last line
    score(data, timeout_seconds=300)
    assert "scored 1 clips" in capsys.readouterr().out
    found = read_scores(file.parent)
    assert len(found) == len(KINDS)
    file.write_text(whole)
    assert read_scores(file.parent) == found


def test_what_is_transparent_lies_on_black(data):
    clip = decode_clip(data / "videos" / "alpha_png.mov", FPS, HEIGHT_PX, WIDTH_PX, max_frames=3)
    left, right = clip[:, :, :70].mean(), clip[:, :, 90:].mean()
    assert left / right == pytest.approx(160 / 255, rel=0.15)


def test_a_turned_film_shows_the_same_as_one_that_is_not(data):
    upright = decode_clip(data / "videos" / "good.mp4", FPS, HEIGHT_PX, WIDTH_PX, max_frames=9).astype(int)
    for video in ("rotated_90.mp4", "rotated_270.mp4"):
        turned = decode_clip(data / "videos" / video, FPS, HEIGHT_PX, WIDTH_PX, max_frames=9)
        assert np.abs(turned - upright).mean() < 6


def test_a_frame_larger_than_any_screen_is_refused_before_it_is_decoded(data):
    with pytest.raises(VideoError, match="too_large"):
        decode_clip(data / "videos" / "huge.mkv", FPS, HEIGHT_PX, WIDTH_PX)
