"""What of a file reaches a rater: its pictures, and as little else as can be.

Every file is copied once, without re-encoding, into a folder beside the votes: no title, no encoder string in the
container or in the H.264 stream (x264 writes its settings into an SEI message), no sound, no dates, one time scale. It
is sent with a `free` box behind it, so that all files of a prompt have the same length. What somebody with developer
tools can still find in the bytes is what the encoder made of the pictures: resolution, rate, profile, bit rate.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mpgen.arena.library import Video
from mpgen.atomic import replacing
from mpgen.video.clips import iter_video
from mpgen.video.copying import copy_pictures
from mpgen.video.writing import VideoWriter

ROUND_BYTES = 1 << 16
_BOX_HEADER = 8
_CHUNK = 1 << 18
_VERSION = "1"  # of what `copy_pictures` and `degrade` do; part of the copies' names


@dataclass(frozen=True)
class Prepared:
    """A file to send, and how long it is when it is sent."""

    path: Path
    num_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """The file, and then a `free` box, which players skip, up to `num_bytes`."""
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
            padding = self.num_bytes - file.tell()
        yield padding.to_bytes(4, "big") + b"free"
        for start in range(_BOX_HEADER, padding, _CHUNK):
            yield bytes(min(_CHUNK, padding - start))


def pad_together(paths: list[Path]) -> list[Prepared]:
    """The files with one common length."""
    longest = max(path.stat().st_size for path in paths) + _BOX_HEADER
    num_bytes = -(-longest // ROUND_BYTES) * ROUND_BYTES
    return [Prepared(path, num_bytes) for path in paths]


def stripped(video: Video, folder: Path) -> Path:
    """The copy of a video to be sent; made unless it is there."""
    return _copy(video, folder, "stripped", copy_pictures)


def degraded(video: Video, folder: Path) -> Path:
    """A copy that is plainly worse, for an attention check; made unless it is there."""
    return _copy(video, folder, "degraded", lambda source, target: degrade(video, target))


def _copy(video: Video, folder: Path, kind: str, make: Callable[[Path, Path], None]) -> Path:
    stat = video.path.stat()
    identity = f"{_VERSION} {kind} {video.path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    target = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.mp4"
    if not target.is_file():
        with replacing(target) as half_written:
            make(video.path, half_written)
    return target


def degrade(video: Video, target: Path) -> None:
    """Writes the video in coarse blocks that move four times a second: nobody who looks takes it for the better one."""
    block = max(4, min(video.height_px, video.width_px) // 24)
    held_frames = max(1, round(video.fps / 4))
    with VideoWriter(target, video.fps, video.height_px, video.width_px, crf=30, atomic=False) as writer:
        for number, frame in enumerate(iter_video(video.path)):
            if number % held_frames == 0:
                coarse = _blocks(frame, block)
            writer.write(coarse)
    with replacing(target) as clean:
        copy_pictures(target, clean)


def _blocks(frame: UInt8[np.ndarray, "h w 3"], block: int) -> UInt8[np.ndarray, "h w 3"]:
    height, width, _ = frame.shape
    # from the middle of a block, or of a picture that is smaller than one
    coarse = frame[min(block, height) // 2 :: block, min(block, width) // 2 :: block]
    return np.pad(coarse.repeat(block, 0).repeat(block, 1), ((0, block), (0, block), (0, 0)), mode="edge")[
        :height, :width
    ]
