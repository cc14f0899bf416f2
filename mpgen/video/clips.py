"""What others want of a video file: all its frames, or a clip at a wanted rate and size."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from mpgen.video.clock import (
    MIN_DECODED,
    SAME_RATE,
    TimedFrame,
    declared_seconds,
    require_rate,
    resample,
    timed_frames,
)
from mpgen.video.decoding import decode_frames
from mpgen.video.errors import VideoError
from mpgen.video.opening import open_video
from mpgen.video.upright import fit_into, shown_size, upright_rgb

MOST_AT_FIRST = 2400  # frames to make room for because a file says that it has so many, which may be untrue
MAX_BYTES = 4 * 2**30  # of frames of a wanted size; a minute of 832x480 at 24 a second takes 1.7e9
MAX_BYTES_AS_STORED = 2 * 2**30  # of frames of the file's size, which a damaged header may say

_log = logging.getLogger(__name__)


def video_size(path: Path | str) -> tuple[int, int]:
    """Height and width of the first frame as a player shows it: upright, with square pixels.

    Raises:
        VideoError: the file cannot be opened, or has no frame.
    """
    path = Path(path)
    with open_video(path) as (container, stream):
        for picture in decode_frames(path, container, stream):
            height, width = shown_size(picture, stream)
            return round(height), round(width)
    raise VideoError(path, "too_short", "has no frame")


def iter_video(path: Path | str) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """All frames as a player shows them, upright and with square pixels; no resampling in time, no other resizing.

    Raises:
        VideoError: the file is missing, is no video, or breaks on the way.
    """
    path, reformatter = Path(path), VideoReformatter()
    with open_video(path) as (container, stream):
        for picture in decode_frames(path, container, stream):
            height, width = shown_size(picture, stream)
            yield upright_rgb(path, reformatter, picture, round(height), round(width))


def read_video(path: Path | str) -> UInt8[np.ndarray, "t h w 3"]:
    """All frames in one array; see `iter_video`.

    Raises:
        VideoError: likewise; also where frames differ in size or are too many to hold.
    """
    path, frames, held = Path(path), [], 0
    for frame in iter_video(path):
        if frames and frame.shape != frames[0].shape:
            raise VideoError(path, "corrupt_stream", f"changes its size after {len(frames)} frames")
        held += 2 * frame.nbytes  # once more when they are put together
        _refuse_too_much(path, held, MAX_BYTES_AS_STORED)
        frames.append(frame)
    if not frames:
        raise VideoError(path, "too_short", "has no frame")
    return np.stack(frames)


def decode_clip(
    path: Path | str,
    fps: float | int,
    height_px: int,
    width_px: int,
    start_seconds: float | int = 0.0,
    end_seconds: float | int | None = None,
    max_frames: int | None = None,
) -> UInt8[np.ndarray, "t h w 3"]:
    """The frames of a span of a video at a wanted rate and size, upright, with square pixels.

    Frame k is the one nearest in time to start + k / fps; a source within 0.5 % of the rate gives its frames as they
    are. Pictures are scaled to cover the size and cropped at the centre. They lie in memory as planes, [t, 3, h, w].

    Args:
        path: any file FFmpeg reads.
        fps: wanted frames per second.
        height_px: wanted height.
        width_px: wanted width.
        start_seconds: counted from the first frame, whatever time stamp the file gives it.
        end_seconds: where to stop (exclusive); None is the end of the video.
        max_frames: stop after so many frames; what follows is neither decoded nor judged.

    Raises:
        VideoError: of `open_video` and `timed_frames`, or reason `too_large`, `too_short`, `low_fps`, `variable_gap`,
            `low_resolution` or `portrait`.
    """
    path = Path(path)
    reformatter = VideoReformatter()
    with open_video(path) as (container, stream):
        source_fps = require_rate(path, stream, fps)
        until_end = None if end_seconds is None else max(1, round((end_seconds - start_seconds) * fps))
        limit = min((count for count in (until_end, max_frames) if count is not None), default=None)
        declared = declared_seconds(container, stream)
        in_file = None if declared is None else round((declared - start_seconds) * fps)
        expected = min((count for count in (in_file, limit) if count is not None), default=0)
        frames = _Frames(path, expected + 1, height_px, width_px)  # a length is rounded
        timed = _checked(path, timed_frames(path, container, stream, start_seconds), start_seconds, end_seconds)
        for frame in resample(timed, fps, start_seconds, same_rate=abs(source_fps - fps) / fps < SAME_RATE):
            fit_into(frames.add(), path, reformatter, frame.picture, stream)
            if len(frames) == limit:
                return frames.pictures
    promised = min((count for count in (in_file, until_end) if count is not None), default=0)
    if len(frames) + 1 < MIN_DECODED * promised:
        raise VideoError(path, "corrupt_stream", f"gives {len(frames)} of {promised} frames")
    if not frames:
        raise VideoError(path, "too_short", f"has no frame at {start_seconds:g} s")
    if until_end is not None and len(frames) + 1 < MIN_DECODED * until_end:
        raise VideoError(
            path,
            "too_short",
            f"ends {len(frames) / fps:.2f} s after {start_seconds:g} s, wanted up to {end_seconds:g} s",
        )
    return frames.pictures


class _Frames:
    """Pictures as planes in one piece of memory, which grows; what was not written to takes up none.

    Args:
        path: of the file, for messages.
        expected: how many there may be; a wrong number costs a copy.
        height_px: of each.
        width_px: of each.
    """

    def __init__(self, path: Path, expected: int, height_px: int, width_px: int) -> None:
        self._path = path
        self._planes = np.empty((min(max(expected, 1), MOST_AT_FIRST), 3, height_px, width_px), np.uint8)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self) -> UInt8[np.ndarray, "3 h w"]:
        """Where the next one goes."""
        _refuse_too_much(self._path, (self._count + 1) * self._planes[0].nbytes, MAX_BYTES)
        if self._count == len(self._planes):
            grown = np.empty((2 * self._count, *self._planes.shape[1:]), np.uint8)
            grown[: self._count] = self._planes
            self._planes = grown
        self._count += 1
        return self._planes[self._count - 1]

    @property
    def pictures(self) -> UInt8[np.ndarray, "t h w 3"]:
        return self._planes[: self._count].transpose(0, 2, 3, 1)


def _refuse_too_much(path: Path, num_bytes: int, most: int) -> None:
    if num_bytes > most:
        raise VideoError(path, "too_large", f"takes more than {most / 2**30:g} GiB of memory; take a part of it")


def _checked(
    path: Path, timed: Iterator[TimedFrame], start_seconds: float | int, end_seconds: float | int | None
) -> Iterator[TimedFrame]:
    """Refuses a pause inside the clip; says how many time stamps had to be mended."""
    mended = 0
    try:
        for frame in timed:
            inside = frame.previous is not None and frame.previous >= start_seconds
            if inside and frame.follows_gap and (end_seconds is None or frame.seconds < end_seconds):
                gap = f"has no frame from {frame.previous:.2f} s to {frame.seconds:.2f} s"
                raise VideoError(path, "variable_gap", gap)
            mended += frame.mended
            yield frame
    finally:
        if mended:
            _log.warning("%s: %d time stamps that do not rise, put in order", path, mended)
