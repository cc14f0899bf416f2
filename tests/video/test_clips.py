"""Laws of writing and cutting videos."""

import os
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from mpgen.errors import UserError
from mpgen.video.clips import decode_clip, iter_video, read_video
from mpgen.video.errors import VideoError
from mpgen.video.opening import read_metadata
from mpgen.video.writing import VideoWriter

COLOURS = np.array(
    [(230, 30, 30), (240, 140, 20), (40, 200, 60), (40, 70, 230), (190, 50, 220), (245, 245, 245)], np.uint8
)


@pytest.mark.parametrize("atomic", [True, False])
def test_colours_come_back_as_they_were_written(tmp_path, atomic):
    frame = np.repeat(np.repeat(COLOURS[None], 16, 0), 16, 1)
    with VideoWriter(tmp_path / "a.mp4", 24, 16, 96, atomic=atomic) as writer:
        for _ in range(5):
            writer.write(frame)
    read = read_video(tmp_path / "a.mp4")
    assert read.shape == (5, 16, 96, 3)
    middles = read[:, 8, 8::16].astype(int)
    assert np.abs(middles - COLOURS.astype(int)).max() <= 4


@pytest.mark.parametrize("atomic", [True, False])
def test_metadata_survives(tmp_path, atomic):
    metadata = {"mpgen_seed": "7", "mpgen_prompt": 'an "é" = x; y'}
    with VideoWriter(tmp_path / "a.mp4", 24, 16, 24, metadata=metadata, atomic=atomic) as writer:
        writer.write(np.zeros((16, 24, 3), np.uint8))
    assert metadata.items() <= read_metadata(tmp_path / "a.mp4").items()


def write_and_interrupt(writer: VideoWriter, num_frames: int) -> None:
    with writer:
        for _ in range(num_frames):
            writer.write(np.zeros((16, 24, 3), np.uint8))
        raise KeyboardInterrupt


def test_a_failed_atomic_write_leaves_the_old_file_and_nothing_else(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", num_frames=9)
    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt(VideoWriter(path, 24, 16, 24), num_frames=1)
    assert len(read_video(path)) == 9
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_an_interrupted_streaming_write_keeps_every_frame(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt(VideoWriter(tmp_path / "a.mp4", 24, 16, 24, atomic=False), num_frames=31)
    assert len(read_video(tmp_path / "a.mp4")) == 31


def test_a_killed_streaming_write_leaves_a_playable_file(tmp_path):
    program = """
import os, sys
import numpy as np
from mpgen.video.writing import VideoWriter
with VideoWriter(sys.argv[1], 24, 16, 24, atomic=False) as writer:
    for _ in range(40):
        writer.write(np.zeros((16, 24, 3), np.uint8))
    os._exit(9)
"""
    path = tmp_path / "a.mp4"
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == 9
    assert 40 - 13 < len(read_video(path)) <= 40  # all but the fragment being written


def test_an_odd_size_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="even width and height, got 24x15"):
        VideoWriter(tmp_path / "a.mp4", 24, 15, 24)


def test_iterating_yields_frames_in_order(tmp_path, make_video, frame_of):
    assert frame_of(list(iter_video(make_video(tmp_path / "a.mp4", num_frames=7)))) == list(range(7))


def test_a_clip_at_the_source_rate_is_the_source(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4")
    assert np.array_equal(decode_clip(path, 24, 16, 24), read_video(path))


def test_a_span_holds_the_frames_from_start_to_before_end(tmp_path, make_video, frame_of):
    path = make_video(tmp_path / "a.mp4", num_frames=24)
    assert frame_of(decode_clip(path, 24, 16, 24, 5 / 24, 12 / 24)) == list(range(5, 12))
    assert frame_of(decode_clip(path, 24, 16, 24, 5 / 24, max_frames=3)) == [5, 6, 7]


def test_a_span_after_the_first_keyframe_is_found_by_seeking(tmp_path, frame_of, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mp4", range(40), frames=np.full((40, 16, 24, 3), 30, np.uint8))
    marked = make_foreign_video(tmp_path / "b.mp4", range(40))
    assert len(decode_clip(path, 24, 16, 24, 1.0)) == 16
    assert frame_of(decode_clip(marked, 24, 16, 24, 1.0, 1.25)) == list(range(24, 30))


def test_an_ntsc_source_is_taken_frame_by_frame_however_long(tmp_path, make_foreign_video):
    # against a rate 0.47 % higher, ten seconds drift by more than a frame
    levels = np.array([30, 120, 210], np.uint8)[np.arange(250) % 3]
    frames = np.broadcast_to(levels[:, None, None, None], (250, 16, 24, 3))
    ticks = [1001 * k for k in range(250)]
    path = make_foreign_video(tmp_path / "a.mp4", ticks, ticks_per_second=24000, frames=frames)
    clip = decode_clip(path, 24.09, 16, 24)
    assert len(clip) == 250
    assert np.abs(clip[:, 8, 12, 0].astype(int) - levels).max() < 20


def test_a_faster_source_gives_the_nearest_frames(tmp_path, make_video, frame_of):
    path = make_video(tmp_path / "a.mp4", num_frames=30, fps=30)
    assert frame_of(decode_clip(path, 24, 16, 24)) == [min(29, int(k * 1.25 + 0.5 - 1e-9)) for k in range(24)]


def test_a_variable_rate_is_resampled_by_time_stamps(tmp_path, make_foreign_video, frame_of):
    ticks = [tick for tick in range(30) if tick not in (1, 9, 10, 11)]  # in 24ths of a second
    path = make_foreign_video(tmp_path / "a.mp4", ticks)
    nearest = [min(range(26), key=lambda frame: (abs(ticks[frame] - tick), frame)) for tick in range(30)]
    assert frame_of(decode_clip(path, 24, 16, 24)) == nearest


def test_a_late_start_time_is_subtracted(tmp_path, make_foreign_video, frame_of):
    path = make_foreign_video(tmp_path / "a.mkv", range(80, 101), container_format="matroska")
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time > 0
    assert frame_of(decode_clip(path, 24, 16, 24)) == list(range(21))


def _rotated(path, matrix):
    """Writes a display matrix into the track header of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [((0, 1, 0, -1, 0, 0), (0, -1)), ((0, -1, 0, 1, 0, 0), (-1, 0)), ((-1, 0, 0, 0, -1, 0), (-1, -1))],
    ids=["clockwise", "counterclockwise", "upside-down"],
)
def test_rotation_in_the_file_is_applied(tmp_path, make_foreign_video, matrix, corner):
    frames = np.full((6, 32, 48, 3), 40, np.uint8)
    frames[:, :8, :8] = 230  # the top left corner as stored
    path = make_foreign_video(tmp_path / "a.mp4", range(6), frames=frames)
    _rotated(path, [value << 16 for value in matrix] + [0, 0, 1 << 30])
    quarter = matrix[0] == 0
    clip = decode_clip(path, 24, 48 if quarter else 32, 32 if quarter else 48)
    corners = {(y, x): clip[3, y, x].mean() for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=corners.get) == corner
    assert corners[corner] > 200


def test_pixels_that_are_not_square_are_stretched_before_cropping(tmp_path, make_foreign_video):
    frames = np.full((4, 32, 32, 3), 40, np.uint8)
    frames[:, 8:24, 8:24] = 230
    path = make_foreign_video(tmp_path / "a.mp4", range(4), frames=frames, sample_aspect_ratio=Fraction(2, 1))
    clip = decode_clip(path, 24, 32, 64)
    bright = clip[2, :, :, 0] > 130
    assert abs(int(bright[16].sum()) - 32) <= 2
    assert abs(int(bright[:, 32].sum()) - 16) <= 2


def test_odd_sizes_are_scaled_to_cover_and_cropped_at_the_centre(tmp_path, make_foreign_video):
    frames = np.full((4, 33, 71, 3), 40, np.uint8)
    frames[:, :, 34:37] = 230  # the middle column
    path = make_foreign_video(tmp_path / "a.mp4", range(4), frames=frames, pix_fmt="yuv444p")
    clip = decode_clip(path, 24, 32, 32)
    assert clip.shape == (4, 32, 32, 3)
    assert abs(int(clip[2, 16, :, 0].argmax()) - 16) <= 1


def reason_of(path, *args, **kwargs) -> str:
    with pytest.raises(VideoError) as caught:
        decode_clip(path, *args, **kwargs)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_a_missing_file_is_missing(tmp_path):
    assert reason_of(tmp_path / "none.mp4", 24, 16, 24) == "missing"


@pytest.mark.parametrize(
    "content",
    [b"", b"this is no video\n" * 40, b"<!DOCTYPE html><html><body>404</body></html>"],
    ids=["empty", "text", "html"],
)
def test_a_file_that_is_no_video_cannot_be_opened(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert reason_of(path, 24, 16, 24) == "corrupt_open"


def noise(num_frames: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (num_frames, 32, 48, 3), dtype=np.uint8)


def test_a_file_cut_before_its_index_cannot_be_opened(tmp_path, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mp4", range(48), frames=noise(48))
    path.write_bytes(path.read_bytes()[:20000])
    assert reason_of(path, 24, 32, 48) == "corrupt_open"


def test_a_file_cut_after_its_index_is_short_of_frames(tmp_path, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mp4", range(48), frames=noise(48), movflags="faststart")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    assert reason_of(path, 24, 32, 48) == "corrupt_stream"
    assert len(decode_clip(path, 24, 32, 48, max_frames=9)) == 9  # what is whole can be used by those who ask for less


def test_a_file_cut_between_two_pictures_is_short_of_frames_without_any_damage(tmp_path, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mp4", range(48), frames=noise(48), movflags="faststart")
    with av.open(str(path)) as container:
        position = [packet.pos for packet in container.demux(video=0) if packet.size][30]
    path.write_bytes(path.read_bytes()[:position])
    with pytest.raises(VideoError, match="gives 30 of 48 frames"):
        decode_clip(path, 24, 32, 48)


def test_damaged_bytes_are_noticed(tmp_path, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mp4", range(48), frames=noise(48), movflags="faststart")
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(5)
    for at in rng.integers(len(data) // 3, len(data), 60):
        data[at] ^= 0xFF
    path.write_bytes(data)
    assert reason_of(path, 24, 32, 48) == "corrupt_stream"


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert reason_of(path, 24, 16, 24) == "no_video_stream"


def test_a_slow_source_is_refused(tmp_path, make_video):
    assert reason_of(make_video(tmp_path / "a.mp4", fps=12), 24, 16, 24) == "low_fps"


def test_a_long_pause_between_frames_is_refused_only_where_it_is_used(tmp_path, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mp4", [*range(40), *range(50, 90)])
    assert reason_of(path, 24, 16, 24) == "variable_gap"
    assert len(decode_clip(path, 24, 16, 24, end_seconds=1.5)) == 36


def test_a_span_that_the_video_does_not_reach_is_too_short(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", num_frames=24)
    assert reason_of(path, 24, 16, 24, start_seconds=2.0) == "too_short"
    assert reason_of(path, 24, 16, 24, end_seconds=3.0) == "too_short"


def test_a_portrait_is_not_cropped_to_a_landscape_and_a_thumbnail_not_blown_up(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", height_px=48, width_px=32)
    assert reason_of(path, 24, 32, 48) == "portrait"
    assert reason_of(path, 24, 80, 80) == "low_resolution"
