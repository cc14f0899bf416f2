"""Frames out of somebody's file: opened, in time, upright.

Frames are chosen by their own time stamps, never by counting at an average rate, because real files start late, drop
frames and lie about their length; what cannot be trusted raises `VideoError` with a reason code, so that a caller can
skip the video and list it.

Decoding is single threaded and leaves `av.logging` alone: a log callback together with frame threads and a corrupt file
hangs FFmpeg.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from mpgen.errors import UserError

SAME_RATE = 0.005  # sources this close to the wanted rate (23.976 for 24) give their frames as they are
MIN_RATE = 5 / 6  # of the wanted rate (20 for 24); below, too many frames would be shown twice
MAX_GAP_SECONDS = 0.25  # a longer pause between two frames is a cut or a freeze, not a variable rate
MAX_UPSCALE = 1.5
MAX_PIXELS = 8192 * 4608  # of a frame; a header that claims more is damaged, or would take all memory
MIN_DECODED = 0.98  # of what the file declares
# with accurate rounding a conversion to planes is an exact one, rounded; without, it is darker by 1 to 1.5 levels
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
SHRINKING = Interpolation.AREA | Interpolation.ACCURATE_RND  # a fifth cheaper, 1.3 levels from the above


class VideoError(UserError):
    """A video that cannot be used as asked; `reason` is a short code for tables, `detail` says it in words."""

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail} ({reason})")
        self.path, self.reason, self.detail = path, reason, detail

    def __reduce__(self) -> tuple:
        return VideoError, (self.path, self.reason, self.detail)  # so that it crosses process borders whole


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame.

    Args:
        picture: as it is stored.
        seconds: since the first frame of the file.
        previous: the time of the frame before it; None where decoding began.
    """

    picture: VideoFrame
    seconds: float
    previous: float | None

    @property
    def follows_gap(self) -> bool:
        return self.previous is not None and self.seconds - self.previous > MAX_GAP_SECONDS


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its video stream.

    Raises:
        VideoError: reason `missing`, `corrupt_open`, `no_video_stream` or `too_large`.
    """
    if not path.is_file():
        raise VideoError(path, "missing", "no such file")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(path, "corrupt_open", f"cannot be opened as a video: {error.strerror}") from error
    with container:
        stream = container.streams.best("video")  # not the cover picture that some files have beside it
        if not isinstance(stream, VideoStream):
            raise VideoError(path, "no_video_stream", "has no video stream")
        if stream.width * stream.height > MAX_PIXELS:
            raise VideoError(path, "too_large", f"is {stream.height}x{stream.width}, at most {MAX_PIXELS} pixels")
        stream.thread_type = "NONE"
        yield container, stream


def decode_frames(
    path: Path, container: InputContainer, stream: VideoStream, start_seconds: float | int = 0.0
) -> Iterator[VideoFrame]:
    """The frames from the last keyframe at or before `start_seconds`.

    Raises:
        VideoError: reason `corrupt_stream`, where a packet cannot be read or decoded.
    """
    try:
        if start_seconds > 0:
            container.seek(round((start_seconds + origin(stream)) / stream.time_base), stream=stream, backward=True)
        yield from container.decode(stream)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(path, "corrupt_stream", f"cannot be decoded: {error.strerror}") from error


def timed_frames(
    path: Path, container: InputContainer, stream: VideoStream, start_seconds: float | int
) -> Iterator[TimedFrame]:
    """Frames with their times, from the last keyframe at or before `start_seconds`.

    Raises:
        VideoError: reason `corrupt_stream`, also for a damaged picture from `start_seconds` on.
    """
    first, previous = origin(stream), None
    for picture in decode_frames(path, container, stream, start_seconds):
        if picture.time is None:
            raise VideoError(path, "corrupt_stream", "has a frame without a time stamp")
        seconds = picture.time - first
        if seconds >= start_seconds and picture.is_corrupt:
            raise VideoError(path, "corrupt_stream", f"is damaged at {seconds:.2f} s")
        yield TimedFrame(picture, seconds, previous)
        previous = seconds


def resample(
    timed: Iterator[TimedFrame], fps: float | int, start_seconds: float | int, same_rate: bool
) -> Iterator[TimedFrame]:
    """For each tick of a clock the frame nearest in time, until the last frame is over.

    With `same_rate` the clock is set by every frame that comes within a quarter of a tick, so that 23.976 does not
    drift against 24.
    """
    tick, wanted = 1 / fps, start_seconds
    held: TimedFrame | None = None
    shown_seconds = tick  # of the last frame: as long as the one before it
    for arrived in timed:
        if held is not None:
            shown_seconds = arrived.seconds - held.seconds
            # a tie goes to the earlier frame
            while abs(held.seconds - wanted) <= abs(arrived.seconds - wanted) + 1e-6:
                yield held
                on_time = same_rate and abs(held.seconds - wanted) < tick / 4
                wanted = (held.seconds if on_time else wanted) + tick
        held = arrived
    while held is not None and wanted < held.seconds + shown_seconds - tick / 4:
        yield held
        wanted += tick


def origin(stream: VideoStream) -> float:
    """The time stamp of the first frame in seconds; not 0 in a file that was cut out of another."""
    return float((stream.start_time or 0) * stream.time_base)


def source_rate(stream: VideoStream) -> float | None:
    """Frames per second as the file says, if it does."""
    return float(stream.average_rate or stream.guessed_rate or 0) or None


def require_rate(path: Path, stream: VideoStream, fps: float | int) -> float:
    """The source's frames per second, `fps` if it does not say.

    Raises:
        VideoError: reason `low_fps`.
    """
    rate = source_rate(stream) or float(fps)
    if rate < MIN_RATE * fps:
        raise VideoError(path, "low_fps", f"has {rate:g} frames per second, wanted about {fps:g}")
    return rate


def declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the file says its pictures last; None when it does not say, or only for sound and pictures together."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base - max(0.0, origin(stream))  # Matroska's is the time of the end
    return None


def quarter_turns(picture: VideoFrame) -> int:
    """How often the stored picture is to be turned counterclockwise."""
    return round(picture.rotation / 90) % 4


def shown_size(picture: VideoFrame, stream: VideoStream) -> tuple[float, float]:
    """Height and width as a player shows them: upright, with square pixels."""
    height, width = float(picture.height), picture.width * float(stream.sample_aspect_ratio or 1)
    return (width, height) if quarter_turns(picture) % 2 else (height, width)


def misfit(size: tuple[float, float], height_px: int, width_px: int) -> tuple[str, str] | None:
    """Why pictures of a size cannot be scaled to cover another: reason and detail; None if they can."""
    height, width = size
    if height > width and height_px < width_px:
        return "portrait", f"is {height:.0f}x{width:.0f}, taller than wide, wanted {height_px}x{width_px}"
    if max(height_px / height, width_px / width) > MAX_UPSCALE:
        return "low_resolution", f"is {height:.0f}x{width:.0f}, too small for {height_px}x{width_px}"
    return None


def fit_into(
    out: UInt8[np.ndarray, "3 h w"],
    path: Path,
    reformatter: VideoReformatter,
    picture: VideoFrame,
    stream: VideoStream,
) -> None:
    """Writes the picture upright, with square pixels, scaled to cover the size of `out` and cropped at the centre."""
    height_px, width_px = out.shape[1:]
    size = shown_size(picture, stream)
    wrong = misfit(size, height_px, width_px)
    if wrong is not None:
        raise VideoError(path, *wrong)
    turns = quarter_turns(picture)
    scale = max(height_px / size[0], width_px / size[1])
    height, width = round(size[0] * scale), round(size[1] * scale)
    stored = (width, height) if turns % 2 else (height, width)
    interpolation = SHRINKING if scale < 1 else SCALING
    top, left = (height - height_px) // 2, (width - width_px) // 2
    for channel, plane in zip(out, _to_planes(path, reformatter, picture, *stored, interpolation), strict=True):
        channel[:] = np.rot90(plane, turns)[top : top + height_px, left : left + width_px]


def to_rgb(
    path: Path,
    reformatter: VideoReformatter,
    picture: VideoFrame,
    height_px: int,
    width_px: int,
    interpolation: int = SCALING,
) -> UInt8[np.ndarray, "h w 3"]:
    """8-bit RGB of a size, by the picture's own colour space; what is transparent lies on black."""
    return np.stack(_to_planes(path, reformatter, picture, height_px, width_px, interpolation), -1)


def _to_planes(
    path: Path, reformatter: VideoReformatter, picture: VideoFrame, height_px: int, width_px: int, interpolation: int
) -> list[UInt8[np.ndarray, "h w"]]:
    """Red, green and blue, in FFmpeg's memory: converting to planes costs half of converting to pixels."""
    transparent = has_alpha(picture)
    wanted = "gbrap" if transparent else "gbrp"
    try:
        converted = reformatter.reformat(
            picture, width=width_px, height=height_px, format=wanted, interpolation=interpolation, threads=1
        )
    except av.error.FFmpegError as error:
        raise VideoError(path, "corrupt_stream", f"has a picture that cannot be converted: {error.strerror}") from error
    green, blue, red, *opacity = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in converted.planes
    )
    rgb = [red, green, blue]
    return [((plane * opacity[0].astype(np.uint16) + 127) // 255).astype(np.uint8) for plane in rgb] if opacity else rgb


def has_alpha(picture: VideoFrame) -> bool:
    return any(component.is_alpha for component in picture.format.components)
