"""One odd video costs itself: a line, and the study goes on without it."""

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from mpgen.arena.command import prepare
from mpgen.arena.library import read_library
from mpgen.arena.prepare import degraded, stripped
from mpgen.video.clips import read_video

from .conftest import METHODS, PROMPTS


def encode(path: Path, codec: str, height: int, width: int, frames: int = 3) -> Path:
    """Noise in any codec that FFmpeg has here."""
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"FFmpeg has no encoder {codec} here")
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"cpu-used": "8"} if codec == "libaom-av1" else {}
        for _ in range(frames):
            picture = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "height", "width"),
    [
        ("av1", "libaom-av1", 64, 64),
        ("two-pixels-high", "libx264", 2, 64),
        ("two-pixels-wide", "libx264", 64, 2),
        ("n" * 251, "libx264", 48, 64),
    ],
)
def test_odd_videos_are_shown_and_have_degraded_copies(tmp_path, name, codec, height, width):
    for method in ("a", "b"):
        encode(tmp_path / "videos" / method / f"{name}.mp4", codec, height, width)
    library = read_library(tmp_path / "videos")
    assert library.rejected == ()
    for video in library.videos.values():
        np.testing.assert_array_equal(read_video(stripped(video, tmp_path / "sent")), read_video(video.path))
        assert read_video(degraded(video, tmp_path / "sent")).shape == (3, height, width, 3)


def test_a_video_that_breaks_while_it_is_copied_is_left_aside(video_folder, tmp_path, monkeypatch):
    shutil.copytree(video_folder, tmp_path / "videos")
    library = read_library(tmp_path / "videos")
    victim = library.videos[PROMPTS[0], METHODS[0]].path
    victim.write_bytes(victim.read_bytes()[:300])
    left, files = prepare(library, tmp_path / "sent", degraded_copies=3, seed=0)
    assert len(left.videos) == len(library.videos) - 1
    assert [line for line in left.rejected if str(victim) in line]
    assert {key[:2] for key in files} == set(left.videos)
    assert not any("\n" in line for line in left.rejected)


def test_an_odd_size_that_has_no_degraded_copy_is_compared_all_the_same(tmp_path):
    for method in ("a", "b"):
        path = tmp_path / "videos" / method / "odd.mp4"
        encode(path, "libvpx-vp9", 33, 47)
    library, files = prepare(read_library(tmp_path / "videos"), tmp_path / "sent", degraded_copies=2, seed=0)
    assert (len(library.videos), library.rejected) == (2, ())
    assert all(len(key) == 2 for key in files)


def test_a_name_that_is_no_valid_unicode_is_shown_with_escapes(video_folder, tmp_path):
    shutil.copytree(video_folder, tmp_path / "videos")
    for method in METHODS[:2]:
        folder = tmp_path / "videos" / method
        shutil.copy(folder / f"{PROMPTS[0]}.mp4", folder / os.fsdecode(b"\xe9.mp4"))
    library = read_library(tmp_path / "videos")
    assert library.rejected == ()
    assert {prompt for prompt, _ in library.videos} == {*PROMPTS, "\\udce9"}
