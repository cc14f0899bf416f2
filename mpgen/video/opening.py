"""Opens a stranger's video file within limits: the one place where the library lets FFmpeg read a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from mpgen.video.errors import VideoError

MAX_PIXELS = 8192 * 4608  # of a frame; a header that claims more is damaged, or would take all memory
OPEN_SECONDS = 60.0  # FFmpeg gives up a read that takes longer


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """As `open_container`, closed in the end."""
    container, stream = open_container(path)
    with container:
        yield container, stream


def open_container(path: Path) -> tuple[InputContainer, VideoStream]:
    """The file and its video stream, which is never the cover picture that some files have beside or before it.

    Decoding is single threaded and `av.logging` is left alone: a log callback together with frame threads and a
    corrupt file hangs FFmpeg.

    Raises:
        VideoError: reason `missing`, `bad_name`, `corrupt_open`, `no_video_stream`, `unknown_codec` or `too_large`.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, false for a name that is too long
        raise VideoError(path, "missing", "no such file")
    try:
        # an absolute path cannot be taken for a protocol, as `pipe:1.mp4` would be
        container = av.open(os.path.abspath(path), metadata_errors="replace", timeout=OPEN_SECONDS)
    except UnicodeEncodeError as error:
        raise VideoError(path, "bad_name", "its name is not valid Unicode; rename it") from error
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(path, "corrupt_open", f"cannot be opened as a video: {error.strerror}") from error
    try:
        stream = _moving_stream(path, container)
        codec = stream.codec_context
        if codec is None:
            raise VideoError(path, "unknown_codec", "is of a codec that is unknown here; convert it, to H.264 say")
        if codec.width * codec.height > MAX_PIXELS:
            raise VideoError(path, "too_large", f"is {codec.width}x{codec.height}, at most {MAX_PIXELS:,} pixels")
        codec.options = {"max_pixels": str(MAX_PIXELS)}  # also for a size that changes on the way
        stream.thread_type = "NONE"
    except VideoError:
        container.close()
        raise
    return container, stream


def read_metadata(path: Path | str) -> dict[str, str]:
    """The container's keys and values (FFmpeg adds a few of its own)."""
    with open_video(Path(path)) as (container, _):
        return dict(container.metadata)


def _moving_stream(path: Path, container: InputContainer) -> VideoStream:
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        what = "has only a cover picture" if container.streams.video else "has no video stream"
        raise VideoError(path, "no_video_stream", what)
    best = container.streams.best("video")
    return next((stream for stream in moving if stream == best), moving[0])
