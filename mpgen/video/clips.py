"""Video files in and out, through PyAV: writing H.264, reading a file as it is, cutting a clip out of somebody's file.

How frames are found, judged and set upright is in `mpgen.video.reading`.
"""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from mpgen.errors import UserError
from mpgen.video.reading import (
    MIN_DECODED,
    SAME_RATE,
    SCALING,
    TimedFrame,
    VideoError,
    declared_seconds,
    decode_frames,
    fit_into,
    open_video,
    require_rate,
    resample,
    timed_frames,
    to_rgb,
)

MOST_AT_FIRST = 2400  # frames to make room for because a file says that it has so many, which may be untrue


class VideoWriter:
    """Writes 8-bit RGB frames as H.264 (yuv420p, bt709) into an mp4; a context manager.

    Args:
        path: where the file goes; its folder is made if missing.
        fps: frames per second.
        height_px: even.
        width_px: even.
        crf: x264 quality, 0 (lossless) to 51; 16 cannot be told from the source by eye.
        metadata: keys and values to keep in the file, see `read_metadata`.
        atomic: write under another name and rename after a clean exit, so that the file is whole or absent. Otherwise
            write the file in place in short fragments: whatever ends the process, what was written so far can be
            played.

    Raises:
        UserError: an odd size.
    """

    def __init__(
        self,
        path: Path | str,
        fps: float | int,
        height_px: int,
        width_px: int,
        crf: int = 16,
        metadata: dict[str, str] | None = None,
        atomic: bool = True,
    ) -> None:
        if height_px % 2 or width_px % 2:
            raise UserError(f"{path}: H.264 needs an even height and width, got {height_px}x{width_px}")
        self.path = Path(path)
        self.fps, self.height_px, self.width_px, self.crf = fps, height_px, width_px, crf
        self.metadata = {} if metadata is None else metadata
        self.atomic = atomic
        self.num_frames = 0
        self._target = self.path.with_name(f".{self.path.stem}.{os.getpid()}.tmp.mp4") if atomic else self.path
        self._reformatter = VideoReformatter()
        self._container: OutputContainer
        self._stream: VideoStream

    def __enter__(self) -> "VideoWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = "faststart" if self.atomic else "frag_keyframe+empty_moov+default_base_moof"
        options = {"movflags": f"{flags}+use_metadata_tags", "flush_packets": "1"}
        self._container = av.open(str(self._target), "w", format="mp4", options=options)
        self._container.metadata.update(self.metadata)
        rate = Fraction(self.fps).limit_denominator(1001)  # 23.976 is 24000/1001
        stream = self._container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = self.height_px, self.width_px, "yuv420p"
        stream.options = {"crf": str(self.crf), "preset": "veryfast", "threads": "1"}
        if not self.atomic:
            stream.options |= {"tune": "zerolatency"}  # no frame waits in the encoder when the process dies
            stream.codec_context.gop_size = max(1, round(self.fps / 2))
        codec = stream.codec_context
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream
        return self

    def write(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Appends one frame of the size given at the start."""
        assert frame.shape == (self.height_px, self.width_px, 3), (
            f"{frame.shape} is not {self.height_px}x{self.width_px}x3"
        )
        picture = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            dst_color_primaries=ColorPrimaries.BT709,
            dst_color_trc=ColorTrc.BT709,
            interpolation=SCALING,
            threads=1,
        )
        picture.pts = self.num_frames
        picture.time_base = 1 / Fraction(self._stream.codec_context.rate)
        self._container.mux(self._stream.encode(picture))
        self.num_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clean = kind is None and self.num_frames > 0
        try:
            if (clean or not self.atomic) and self.num_frames > 0:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if self.atomic and clean:
                os.replace(self._target, self.path)
        finally:
            if self.atomic:
                self._target.unlink(missing_ok=True)
        assert clean or kind is not None, f"{self.path}: no frame was written"


def read_metadata(path: Path | str) -> dict[str, str]:
    """The container's keys and values (FFmpeg adds a few of its own)."""
    with open_video(Path(path)) as (container, _):
        return dict(container.metadata)


def iter_video(path: Path | str) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """All frames as they are stored: no resampling in time, no resizing, no rotation.

    Raises:
        VideoError: the file is missing, is no video, or breaks on the way.
    """
    reformatter = VideoReformatter()
    with open_video(Path(path)) as (container, stream):
        for frame in decode_frames(Path(path), container, stream):
            yield to_rgb(Path(path), reformatter, frame, frame.height, frame.width)


def read_video(path: Path | str) -> UInt8[np.ndarray, "t h w 3"]:
    """All frames as they are stored, in one array; see `iter_video`."""
    frames = list(iter_video(path))
    if not frames:
        raise VideoError(Path(path), "too_short", "has no frame")
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
        VideoError: reason `missing`, `corrupt_open`, `no_video_stream`, `too_large`, `corrupt_stream`, `too_short`,
            `low_fps`, `variable_gap`, `low_resolution` or `portrait`.
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
        frames = _Frames(expected + 1, height_px, width_px)  # a length is rounded
        timed = _without_gaps(path, timed_frames(path, container, stream, start_seconds), start_seconds, end_seconds)
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
        expected: how many there may be; a wrong number costs a copy.
        height_px: of each.
        width_px: of each.
    """

    def __init__(self, expected: int, height_px: int, width_px: int) -> None:
        self._planes = np.empty((min(max(expected, 1), MOST_AT_FIRST), 3, height_px, width_px), np.uint8)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self) -> UInt8[np.ndarray, "3 h w"]:
        """Where the next one goes."""
        if self._count == len(self._planes):
            grown = np.empty((2 * self._count, *self._planes.shape[1:]), np.uint8)
            grown[: self._count] = self._planes
            self._planes = grown
        self._count += 1
        return self._planes[self._count - 1]

    @property
    def pictures(self) -> UInt8[np.ndarray, "t h w 3"]:
        return self._planes[: self._count].transpose(0, 2, 3, 1)


def _without_gaps(
    path: Path, timed: Iterator[TimedFrame], start_seconds: float | int, end_seconds: float | int | None
) -> Iterator[TimedFrame]:
    for frame in timed:
        inside = frame.previous is not None and frame.previous >= start_seconds
        if inside and frame.follows_gap and (end_seconds is None or frame.seconds < end_seconds):
            raise VideoError(path, "variable_gap", f"has no frame from {frame.previous:.2f} s to {frame.seconds:.2f} s")
        yield frame
