"""Small films made to order, as cameras, phones and converters leave them; for `mpgen.data.world.dirty`."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import UInt8

HEIGHT_PX, WIDTH_PX, FPS = 96, 160, 24
LENGTH = 72  # frames of most films

Frames = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True)
class DirtyVideo:
    """A file and what must come of it.

    Args:
        video: its name.
        note: what it is.
        segments: how many spans of it are used.
        reasons: codes in the rejects file, in alphabetical order.
        flags: of the spans that are used.
    """

    video: str
    note: str
    segments: int = 0
    reasons: str = ""
    flags: str = ""


class Kinds(list[tuple[DirtyVideo, Callable[[Path], None]]]):
    """Kinds of files, each with the function that makes one; collected by using `add` as a decorator."""

    def add(
        self, video: str, note: str, segments: int = 0, reasons: str = "", flags: str = ""
    ) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
        def keep(make: Callable[[Path], None]) -> Callable[[Path], None]:
            self.append((DirtyVideo(video, note, segments, reasons, flags), make))
            return make

        return keep


def walk(
    frames: int = LENGTH, height_px: int = HEIGHT_PX, width_px: int = WIDTH_PX, seed: int = 1, step: float | int = 1.5
) -> Frames:
    """A textured canvas that passes by, `step` pixels a frame; another seed is another place."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(30, 226, (height_px // 8 + 2, (width_px + int(frames * step)) // 8 + 3, 3)).astype(float)
    cells += rng.integers(-25, 26, 3)
    canvas = cells.repeat(8, 0).repeat(8, 1)
    for axis in (0, 1):
        canvas = sum(np.roll(canvas, shift, axis) for shift in range(-3, 4)) / 7
    canvas = canvas.clip(0, 255).astype(np.uint8)
    offsets = [int(k * step) for k in range(frames)]
    return np.stack([canvas[:height_px, offset : offset + width_px] for offset in offsets])


def write_film(
    path: Path,
    frames: Frames,
    ticks: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, FPS),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    aspect: Fraction | None = None,
    container: str = "mp4",
    muxer: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    alpha: UInt8[np.ndarray, "h w"] | None = None,
    gop: int = 24,
) -> None:
    """Encodes frames shown at `ticks` of the time base (one after the other if not given)."""
    ticks = range(len(frames)) if ticks is None else ticks
    with av.open(str(path), "w", format=container, options=muxer or {}) as output:
        stream = output.add_stream(codec, rate=1 / time_base if time_base.numerator == 1 else Fraction(24000, 1001))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.options = {"threads": "1", "bf": "0"} | (options or {})
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = gop
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for tick, frame in zip(ticks, frames, strict=True):
            if alpha is None:
                picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            else:
                picture = VideoFrame.from_ndarray(np.dstack([frame, alpha]), format="rgba")
            picture.pts, picture.time_base = tick, time_base
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def rotate(path: Path, matrix: tuple[int, ...]) -> None:
    """Writes a display matrix into the track header of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", *(value << 16 for value in matrix), 0, 0, 1 << 30)
    path.write_bytes(data)


def cut_after(path: Path, pictures: int) -> None:
    """Ends the file exactly behind so many pictures."""
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: positions[pictures]])


def flip_bytes(path: Path, first_picture: int) -> None:
    """Damages the pictures from one on."""
    with av.open(str(path)) as container:
        first = [packet.pos for packet in container.demux(video=0) if packet.size][first_picture]
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    at = np.random.default_rng(5).integers(first, len(data), max(60, (len(data) - first) // 100))
    data[at] ^= 0xFF
    path.write_bytes(data.tobytes())
