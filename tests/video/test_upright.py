"""Laws of orientation: a picture is read as a player shows it, whatever its display matrix."""

import itertools
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from mpgen.video import upright
from mpgen.video.clips import decode_clip, iter_video, read_video, video_size
from mpgen.video.errors import VideoError
from mpgen.video.opening import open_video
from mpgen.video.upright import shown_size

# (a, b, c, d): the pixel (x, y) is shown at (a x + c y, b x + d y); all eight ways to lay a rectangle down
MATRICES = [m for m in itertools.product((-1, 0, 1), repeat=4) if m[0] * m[3] - m[1] * m[2] in (-1, 1) and 0 in m]


def turned(path, matrix) -> None:
    """Writes a display matrix into the track header of an mp4."""
    a, b, c, d = (value << 16 for value in matrix)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def as_shown(stored: np.ndarray, matrix) -> np.ndarray:
    """Each pixel put where the matrix says, one by one."""
    a, b, c, d = matrix
    points = {(a * x + c * y, b * x + d * y): stored[y, x] for y, x in np.ndindex(stored.shape[:2])}
    left, top = min(x for x, _ in points), min(y for _, y in points)
    shape = (max(y for _, y in points) - top + 1, max(x for x, _ in points) - left + 1)
    shown = np.zeros((*shape, stored.shape[2]), stored.dtype)
    for (x, y), value in points.items():
        shown[y - top, x - left] = value
    return shown


@pytest.mark.parametrize("matrix", [m for m in MATRICES if abs(m[0]) + abs(m[1]) == 1 and abs(m[2]) + abs(m[3]) == 1])
def test_all_eight_orientations_are_shown(tmp_path, make_foreign_video, matrix):
    frames = np.full((4, 32, 48, 3), 40, np.uint8)
    frames[:, :8, :12] = 230  # one corner, wider than high: every orientation looks different
    path = make_foreign_video(tmp_path / "a.mp4", range(4), frames=frames)
    stored = read_video(path)[1]
    turned(path, matrix)
    wanted = as_shown(stored, matrix)
    assert video_size(path) == wanted.shape[:2]
    assert np.array_equal(read_video(path)[1], wanted)
    assert np.array_equal(decode_clip(path, 24, *wanted.shape[:2])[1], wanted)


def test_the_size_of_a_phones_clip_is_the_one_shown(tmp_path, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mp4", range(4))  # stored as 16x24
    turned(path, (0, -1, 1, 0))
    assert video_size(path) == (24, 16)
    with open_video(path) as (container, stream):
        assert shown_size(next(container.decode(stream)), stream) == (24, 16)


def test_pixels_wider_than_any_screen_are_refused(tmp_path, make_foreign_video, monkeypatch):
    path = make_foreign_video(tmp_path / "a.mp4", range(4), sample_aspect_ratio=Fraction(3, 1))
    assert read_video(path).shape == (4, 16, 72, 3)
    monkeypatch.setattr(upright, "MAX_PIXELS", 16 * 24 * 3 - 1)
    for read in (read_video, lambda path: decode_clip(path, 24, 16, 24)):
        with pytest.raises(VideoError, match="too_large"):
            read(path)


@pytest.mark.parametrize("first", ["cover", "film"])
def test_a_cover_picture_is_never_the_video(tmp_path, make_foreign_video, first):
    film = make_foreign_video(tmp_path / "film.mp4", range(6))
    path = tmp_path / "a.mp4"
    still = np.full((64, 64, 3), 250, np.uint8)
    with av.open(str(film)) as moving, av.open(str(path), "w") as output:
        outs = {}
        for kind in ("cover", "film") if first == "cover" else ("film", "cover"):
            if kind == "cover":
                outs[kind] = output.add_stream("mjpeg", rate=1)
                outs[kind].height = outs[kind].width = 64
                outs[kind].pix_fmt = "yuvj420p"
                outs[kind].disposition = av.stream.Disposition.attached_pic
            else:
                outs[kind] = output.add_stream_from_template(moving.streams.video[0])
        picture = av.VideoFrame.from_ndarray(still, format="rgb24")
        for packet in [*outs["cover"].encode(picture), *outs["cover"].encode(None)]:
            output.mux(packet)
        for packet in moving.demux(video=0):
            if packet.dts is not None:
                packet.stream = outs["film"]
                output.mux(packet)
    assert len(list(iter_video(path))) == 6
    assert video_size(path) == (16, 24)


def test_a_codec_that_is_unknown_here_is_said(tmp_path, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mp4", range(6))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match="unknown_codec"):
        read_video(path)


def test_a_name_is_never_taken_for_a_protocol(tmp_path, make_video, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "pipe:1.mp4", num_frames=3)
    assert len(read_video("pipe:1.mp4")) == 3
