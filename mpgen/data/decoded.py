"""What decoding a manifest row hands over: its frames, and what tells whether its file has changed since.

Runs in processes of its own (`mpgen.video.workers`), so nothing here imports torch.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mpgen.data.records import VideoRecord
from mpgen.sections import count_sections
from mpgen.video.clips import decode_clip
from mpgen.video.errors import VideoError


@dataclass(frozen=True)
class SourceState:
    """A file at one moment.

    Args:
        size: in bytes.
        mtime_ns: when it was last written.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "SourceState":
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class DecodedVideo:
    """The frames of a start image and whole sections.

    Args:
        frames: 1 + 4k of them, as planes: so they can go from process to process in one piece.
        num_sections: at least 1.
        frames_decoded: how many there were before the last section was made whole.
        state: of the file, before it was read.
        sha256: of the whole file.
    """

    frames: UInt8[np.ndarray, "t 3 h w"]
    num_sections: int
    frames_decoded: int
    state: SourceState
    sha256: str


def decode_record(
    record: VideoRecord, fps: float, height_px: int, width_px: int, section_pixel_frames: int, max_sections: int
) -> DecodedVideo:
    """The first whole sections of a video, at most `max_sections`.

    Raises:
        VideoError: it cannot be decoded, or is shorter than one section.
    """
    try:
        state = SourceState.of(record.path)
        sha256 = hash_file(record.path, state)
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else "corrupt_open"
        raise VideoError(record.path, reason, f"cannot be read: {error.strerror}") from error
    frames = decode_clip(
        record.path,
        fps,
        height_px,
        width_px,
        record.start_seconds,
        record.end_seconds,
        max_frames=1 + max_sections * section_pixel_frames,
    )
    num_sections = count_sections(len(frames), section_pixel_frames)
    if num_sections == 0:
        wanted = 1 + section_pixel_frames
        raise VideoError(
            record.path, "too_short", f"has {len(frames)} frames, wanted {wanted} for the start image and a section"
        )
    kept = frames[: 1 + num_sections * section_pixel_frames].transpose(0, 3, 1, 2)
    return DecodedVideo(kept, num_sections, len(frames), state, sha256)


@lru_cache(maxsize=64)  # a long video is the source of many rows
def hash_file(path: Path, state: SourceState) -> str:
    """The sha256 of a file that is in this state."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
