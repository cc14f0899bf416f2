"""Sekai's tables, by the columns that its users read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpgen.data.curate.sources.sekai import Sekai

HEADER = "videoFile,cameraFile,caption,location,scene,crowdDensity,weather,timeOfDay\n"
STEM = "au1ts-L8MXQ_0021750_0023550"
ROW = f'{STEM}.mp4,{STEM}.npz,"The camera moves, slowly.",Oslo,urban,sparse,sunny,day\n'


def test_a_row_becomes_a_clip_with_its_labels(read_source, touch):
    (item,), rejects = read_source(Sekai(), HEADER + ROW, touch(f"{STEM}.mp4"))
    assert rejects == []
    assert item.seconds == 60.0
    assert (item.clip.clip_id, item.clip.video_id) == (STEM, "au1ts-L8MXQ")
    assert (item.clip.start_seconds, item.clip.end_seconds) == (0.0, None)
    assert item.clip.captions == {
        "dense": "The camera moves, slowly.",
        "location": "Oslo",
        "scene": "urban",
        "crowd_density": "sparse",
        "weather": "sunny",
        "time_of_day": "day",
    }


@pytest.mark.parametrize(
    "folder", ["", "au1ts-L8MXQ/", "files/au1ts-L8MXQ/", "sekai-real-walking_part001/sekai-real-walking/", "a/b/c/d/"]
)
def test_the_clip_is_found_in_every_layout(read_source, touch, folder):
    root = touch(f"{folder}{STEM}.mp4", f"vstreams/au1ts-L8MXQ/{STEM}.hevc", "videos/au1ts-L8MXQ.mkv")
    assert read_source(Sekai(), HEADER + ROW, root)[0][0].clip.path == str(root / f"{folder}{STEM}.mp4")


def test_without_a_cut_clip_the_span_of_the_download_is_taken_at_30_frames_a_second(read_source, touch):
    root = touch("videos/au1ts-L8MXQ.mkv", f"vstreams/au1ts-L8MXQ/{STEM}.hevc")
    clip = read_source(Sekai(), HEADER + ROW, root)[0][0].clip
    assert clip.path == str(root / "videos/au1ts-L8MXQ.mkv")
    assert (clip.start_seconds, clip.end_seconds) == (725.0, 785.0)


@pytest.mark.parametrize("camera", [f"{STEM}.npz", "", f"train/{STEM}.npz"])
def test_the_camera_is_found_beside_the_clip_or_elsewhere_and_not_opened(read_source, touch, camera):
    root = touch(f"files/{STEM}.mp4", f"cameras/{STEM}.npz")
    row = f"{STEM}.mp4,{camera},x,,,,,\n"
    assert read_source(Sekai(), HEADER + row, root)[0][0].clip.camera == str(root / f"cameras/{STEM}.npz")


def test_most_clips_have_no_camera(read_source, touch):
    assert read_source(Sekai(), HEADER + ROW, touch(f"{STEM}.mp4", "other.npz"))[0][0].clip.camera is None


def test_of_rows_with_one_file_the_first_is_used(read_source, touch):
    found, rejects = read_source(Sekai(), HEADER + ROW + ROW.replace("slowly", "fast"), touch(f"{STEM}.mp4"))
    assert "slowly" in found[0].clip.captions["dense"]
    assert [(item.row, item.video, item.reason) for item in rejects] == [(3, f"{STEM}.mp4", "duplicate")]


def test_the_order_of_columns_does_not_matter_and_others_are_kept(read_source, touch):
    content = f"\ufeffquality,caption,videoFile\n0.9,a walk,{STEM}.mp4\n"
    assert read_source(Sekai(), content, touch(f"{STEM}.mp4"))[0][0].clip.captions == {
        "dense": "a walk",
        "quality": "0.9",
    }


def test_a_caption_longer_than_the_csv_modules_limit_is_read(read_source, touch):
    content = HEADER + f'{STEM}.mp4,,"{"word " * 40_000}",,,,,\n'
    assert len(read_source(Sekai(), content, touch(f"{STEM}.mp4"))[0][0].clip.captions["dense"]) == 199_999


@pytest.mark.parametrize(
    ("file", "reason"),
    [("walk.mp4", "bad_id"), ("", "bad_id"), ("x_0000002_0000001.mp4", "bad_span"), ("x_0_9.mp4", "missing")],
)
def test_a_bad_row_is_told_and_the_others_are_kept(read_source, touch, file, reason):
    found, rejects = read_source(Sekai(), HEADER + f"{file},,x,,,,,\n" + ROW, touch(f"{STEM}.mp4", "walk.mp4"))
    assert len(found) == 1
    assert [(item.row, item.video, item.reason) for item in rejects] == [(2, file, reason)]


@given(
    video_id=st.text(st.sampled_from("aZ09_-"), min_size=1, max_size=11),
    start=st.integers(0, 10**6),
    frames=st.integers(1, 1800),
    folder=st.sampled_from(["", "a/", "./b/"]),
)
def test_ids_with_any_dashes_and_underscores_are_taken_apart(video_id, start, frames, folder):
    listing = Sekai().parse({"videoFile": f"{folder}{video_id}_{start:07d}_{start + frames:07d}.mp4"})
    assert listing.video_id == video_id
    assert listing.end_seconds - listing.start_seconds == pytest.approx(frames / 30)
    assert "/" not in listing.clip_id
