"""Video files in and out: the one place that speaks to FFmpeg (through PyAV).

Here belong writing H.264, reading a file as it is, and cutting a clip at a wanted frame rate and size out of somebody's
file. Frames are chosen by their own time stamps, never by counting at an average rate, because real files start late,
drop frames and lie about their length; what cannot be trusted raises `VideoError` with a reason code, so that a caller
can skip the video and list it.

Decoding is single threaded and leaves `av.logging` alone: a log callback together with frame threads and a corrupt file
hangs FFmpeg.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from mpgen.errors import UserError

SAME_RATE = 0.005  # sources this close to the wanted rate (23.976 for 24) give their frames as they are
MIN_RATE = 5 / 6  # of the wanted rate (20 for 24); below, too many frames would be shown twice
MAX_GAP_SECONDS = 0.25  # a longer pause between two frames is a cut or a freeze, not a variable rate
MAX_UPSCALE = 1.5
MIN_DECODED = 0.98  # of what the file declares
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class VideoError(UserError):
    """A video that cannot be used as asked; `reason` is a short code for tables, `detail` says it in words."""

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail} ({reason})")
        self.path, self.reason, self.detail = path, reason, detail

    def __reduce__(self) -> tuple:
        return VideoError, (self.path, self.reason, self.detail)  # so that it crosses process borders whole


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
            interpolation=_SCALING,
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
    with _open(Path(path)) as (container, _):
        return dict(container.metadata)


def iter_video(path: Path | str) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """All frames as they are stored: no resampling in time, no resizing, no rotation.

    Raises:
        VideoError: the file is missing, is no video, or breaks on the way.
    """
    reformatter = VideoReformatter()
    with _open(Path(path)) as (container, stream):
        for frame in _decode(Path(path), container, stream):
            yield _to_rgb(Path(path), reformatter, frame, frame.height, frame.width)


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
    are. Pictures are scaled to cover the size and cropped at the centre.

    Args:
        path: any file FFmpeg reads.
        fps: wanted frames per second.
        height_px: wanted height.
        width_px: wanted width.
        start_seconds: counted from the first frame, whatever time stamp the file gives it.
        end_seconds: where to stop (exclusive); None is the end of the video.
        max_frames: stop after so many frames; what follows is neither decoded nor judged.

    Raises:
        VideoError: reason `missing`, `corrupt_open`, `no_video_stream`, `corrupt_stream`, `too_short`, `low_fps`,
            `variable_gap`, `low_resolution` or `portrait`.
    """
    path = Path(path)
    reformatter = VideoReformatter()
    with _open(path) as (container, stream):
        source_fps = float(stream.average_rate or stream.guessed_rate or fps)
        if source_fps < MIN_RATE * fps:
            raise VideoError(path, "low_fps", f"has {source_fps:g} frames per second, wanted about {fps:g}")
        until_end = None if end_seconds is None else max(1, round((end_seconds - start_seconds) * fps))
        limit = min((count for count in (until_end, max_frames) if count is not None), default=None)
        frames: list[np.ndarray] = []
        timed = _timed(path, container, stream, start_seconds, end_seconds)
        for frame in _resample(timed, fps, start_seconds, same_rate=abs(source_fps - fps) / fps < SAME_RATE):
            frames.append(_fit(path, reformatter, frame, stream, height_px, width_px))
            if len(frames) == limit:
                return np.stack(frames)
        declared = _declared_seconds(container, stream)
    in_file = None if declared is None else round((declared - start_seconds) * fps)
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
    return np.stack(frames)


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    if not path.is_file():
        raise VideoError(path, "missing", "no such file")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(path, "corrupt_open", f"cannot be opened as a video: {error.strerror}") from error
    with container:
        if not container.streams.video:
            raise VideoError(path, "no_video_stream", "has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        yield container, stream


def _decode(
    path: Path, container: InputContainer, stream: VideoStream, start: float | int = 0.0
) -> Iterator[VideoFrame]:
    """The frames from the last keyframe at or before `start` seconds."""
    try:
        if start > 0:
            container.seek(round((start + _origin(stream)) / stream.time_base), stream=stream, backward=True)
        yield from container.decode(stream)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(path, "corrupt_stream", f"cannot be decoded: {error.strerror}") from error


def _origin(stream: VideoStream) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the file says its pictures last; None when it does not say, or only for sound and pictures together."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base - max(0.0, _origin(stream))  # Matroska's is the time of the end
    return None


def _timed(
    path: Path, container: InputContainer, stream: VideoStream, start: float | int, end: float | int | None
) -> Iterator[tuple[VideoFrame, float]]:
    """Frames with their seconds since the first one; judges the frames inside the span."""
    before: float | None = None
    for frame in _decode(path, container, stream, start):
        if frame.pts is None:
            raise VideoError(path, "corrupt_stream", "has a frame without a time stamp")
        seconds = float(frame.pts * frame.time_base) - _origin(stream)
        if seconds >= start and frame.is_corrupt:
            raise VideoError(path, "corrupt_stream", f"is damaged at {seconds:.2f} s")
        if (
            before is not None
            and before >= start
            and seconds - before > MAX_GAP_SECONDS
            and (end is None or seconds < end)
        ):
            raise VideoError(path, "variable_gap", f"has no frame from {before:.2f} s to {seconds:.2f} s")
        yield frame, seconds
        before = seconds


def _resample(
    timed: Iterator[tuple[VideoFrame, float]], fps: float | int, start_seconds: float | int, same_rate: bool
) -> Iterator[VideoFrame]:
    """For each tick of a clock the frame nearest in time, until the last frame is over.

    With `same_rate` the clock is set by every frame that comes within a quarter of a tick, so that 23.976 does not
    drift against 24.
    """
    tick, wanted = 1 / fps, start_seconds
    held: tuple[VideoFrame, float] | None = None
    shown_seconds = tick  # of the last frame: as long as the one before it
    for arrived in timed:
        if held is not None:
            shown_seconds = arrived[1] - held[1]
            while abs(held[1] - wanted) <= abs(arrived[1] - wanted) + 1e-6:  # a tie goes to the earlier frame
                yield held[0]
                on_time = same_rate and abs(held[1] - wanted) < tick / 4
                wanted = (held[1] if on_time else wanted) + tick
        held = arrived
    while held is not None and wanted < held[1] + shown_seconds - tick / 4:
        yield held[0]
        wanted += tick


def _fit(
    path: Path, reformatter: VideoReformatter, frame: VideoFrame, stream: VideoStream, height_px: int, width_px: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The frame upright, with square pixels, scaled to cover the size and cropped at the centre."""
    quarter_turns = round(frame.rotation / 90) % 4
    shown = np.array([frame.height, frame.width * float(stream.sample_aspect_ratio or 1)])
    upright = shown[::-1] if quarter_turns % 2 else shown
    if upright[0] > upright[1] and height_px < width_px:
        raise VideoError(path, "portrait", f"is taller than wide, wanted {height_px}x{width_px}")
    scale = max(height_px / upright[0], width_px / upright[1])
    if scale > MAX_UPSCALE:
        raise VideoError(
            path, "low_resolution", f"is {upright[0]:.0f}x{upright[1]:.0f}, too small for {height_px}x{width_px}"
        )
    stored = [int(length) for length in np.rint(shown * scale)]
    picture = np.rot90(_to_rgb(path, reformatter, frame, *stored), quarter_turns)
    top, left = (picture.shape[0] - height_px) // 2, (picture.shape[1] - width_px) // 2
    return np.ascontiguousarray(picture[top : top + height_px, left : left + width_px])


def _to_rgb(
    path: Path, reformatter: VideoReformatter, frame: VideoFrame, height_px: int, width_px: int
) -> UInt8[np.ndarray, "h w 3"]:
    try:
        rgb = reformatter.reformat(
            frame, width=width_px, height=height_px, format="rgb24", interpolation=_SCALING, threads=1
        )
    except av.error.FFmpegError as error:
        raise VideoError(path, "corrupt_stream", f"has a picture that cannot be converted: {error.strerror}") from error
    return rgb.to_ndarray()
