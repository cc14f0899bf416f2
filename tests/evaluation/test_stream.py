"""Laws of the decode: every frame once and in order, whatever the chunk, and a broken file gives what it has."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpgen.evaluation import frames, stream
from mpgen.evaluation.resize import as_columns
from mpgen.evaluation.stream import FrameStream, video_info
from mpgen.video import opening
from mpgen.video.clips import read_video
from mpgen.video.errors import VideoError


def frames_of(path, **options) -> tuple[np.ndarray, FrameStream]:
    opened = FrameStream(path, **options)
    chunks = list(opened)
    assert [chunk.first for chunk in chunks] == np.cumsum([0, *(len(c.pixels) for c in chunks[:-1])]).tolist()
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return torch.cat([chunk.pixels for chunk in chunks]).permute(0, 2, 3, 1).numpy(), opened


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_every_frame_comes_once_in_order_whatever_the_chunk(write, moving, tmp_path, chunk):
    path = write(tmp_path / "a.mp4", moving(23))
    frames, opened = frames_of(path, chunk_frames=chunk)
    np.testing.assert_array_equal(frames, frames_of(path, chunk_frames=5)[0])
    assert (len(frames), opened.num_frames, opened.note, opened.info.fps) == (23, 23, "", 24.0)
    assert np.abs(frames.astype(int) - moving(23)).mean() < 8


def test_a_chunk_and_a_part_of_it_have_the_columns_of_their_pixels(write, moving, tmp_path, monkeypatch):
    chunks = list(FrameStream(write(tmp_path / "a.mp4", moving(5)), chunk_frames=3))
    halves = [replace(chunk, pixels=chunk.pixels[..., :24]) for chunk in chunks]
    wanted = [as_columns(chunk.pixels) for chunk in chunks + halves]
    assert all(torch.equal(torch.cat(half.columns), columns) for half, columns in zip(halves, wanted[2:], strict=True))
    monkeypatch.setattr(frames, "as_columns", None)  # what is whole needs no copy
    assert all(
        torch.equal(torch.cat(chunk.columns), columns) for chunk, columns in zip(chunks, wanted[:2], strict=True)
    )


def test_an_untagged_file_is_read_as_pyav_reads_it(write, moving, tmp_path):
    import av

    path = write(tmp_path / "a.mp4", moving(5))
    with av.open(str(path)) as container:
        plain = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    np.testing.assert_array_equal(frames_of(path)[0], plain)
    np.testing.assert_array_equal(frames_of(path, colour="ignore")[0], plain)


def test_a_tag_is_believed_unless_told_otherwise(write_tagged, tmp_path):
    flat = np.broadcast_to(np.array([200, 30, 60], np.uint8), (4, 32, 48, 3))
    path = write_tagged(tmp_path / "a.mp4", flat)
    true, ignored = frames_of(path)[0], frames_of(path, colour="ignore")[0]
    assert video_info(path).tagged
    assert np.abs(true.astype(int) - read_video(path)).max() <= 2
    assert np.abs(true.astype(int) - flat).max() <= 4
    assert np.abs(ignored.astype(int) - true).max() > 10


def test_one_frame_and_odd_sizes_are_videos(write, moving, tmp_path):
    assert frames_of(write(tmp_path / "one.mp4", moving(1)))[0].shape == (1, 32, 48, 3)
    assert frames_of(write(tmp_path / "odd.mp4", moving(3, 33, 47)))[0].shape == (3, 33, 47, 3)


def test_a_file_that_breaks_off_gives_what_is_before(write, moving, tmp_path):
    whole = write(tmp_path / "whole.mp4", moving(90, 64, 64), fps=24)
    data = bytearray(whole.read_bytes())
    broken = tmp_path / "broken.mp4"
    start = data.find(b"mdat") + 4
    middle = start + (len(data) - start) // 2
    data[middle : middle + 600] = bytes(600)
    broken.write_bytes(data)
    frames, opened = frames_of(broken)
    assert 0 < len(frames) < 90
    assert f"after {len(frames)}" in opened.note
    np.testing.assert_array_equal(frames[:20], frames_of(whole)[0][:20])


def test_what_is_no_video_gets_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "absent.mp4"):
        with pytest.raises(VideoError, match=name) as caught:
            FrameStream(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_huge_frames_come_in_short_chunks_or_are_refused(write, moving, tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", moving(5))
    monkeypatch.setattr(stream, "CHUNK_BYTES", 2 * 32 * 48 * 3)
    assert [len(chunk.pixels) for chunk in FrameStream(path, chunk_frames=64)] == [2, 2, 1]
    monkeypatch.setattr(opening, "MAX_PIXELS", 32 * 48 - 1)
    with pytest.raises(VideoError, match="48x32, at most"):
        FrameStream(path)


def test_the_thread_ends_with_the_reader(write, moving, tmp_path):
    path = write(tmp_path / "a.mp4", moving(60))
    for _ in FrameStream(path, chunk_frames=1):
        break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_decoding_waits_for_the_reader(write, moving, tmp_path, monkeypatch):
    made = []
    real = stream._to_rgb
    monkeypatch.setattr(stream, "_to_rgb", lambda *a: made.append(1) or real(*a))
    chunks = iter(FrameStream(write(tmp_path / "a.mp4", moving(90)), chunk_frames=3))
    next(chunks)
    threading.Event().wait(0.3)
    assert len(made) <= 3 * 6
    chunks.close()
