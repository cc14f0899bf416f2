"""Frames of an opened file within a budget, whatever the file makes FFmpeg do."""

import time
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mpgen.video.errors import VideoError
from mpgen.video.opening import MAX_PIXELS

DECODE_SECONDS = 900.0  # spent in decoding one file; the time of whoever uses the frames does not count
SILENT_SECONDS = 60.0  # without a single frame


def decode_frames(
    path: Path, container: InputContainer, stream: VideoStream, start_seconds: float | int = 0.0
) -> Iterator[VideoFrame]:
    """The frames from the last keyframe at or before `start_seconds`, or from the start where a file cannot seek.

    Raises:
        VideoError: reason `corrupt_stream`, where a packet cannot be read or decoded; `too_large`, where a frame is;
            `too_slow`, where it takes longer than the budget.
    """
    left, began = DECODE_SECONDS, time.monotonic()
    try:
        # the clock of a transport stream may start anew on the way, so its times do not say where in the file they are
        if start_seconds > 0 and not container.format.flags & Flags.ts_discont.value:
            container.seek(round((start_seconds + origin(stream)) / stream.time_base), stream=stream, backward=True)
        for packet in _packets(container, stream):
            for frame in stream.decode(packet):
                if frame.width * frame.height > MAX_PIXELS:
                    raise VideoError(path, "too_large", f"has a frame of {frame.width}x{frame.height}")
                left -= time.monotonic() - began
                yield frame
                began = time.monotonic()
            taken = time.monotonic() - began
            if taken > min(left, SILENT_SECONDS):
                raise VideoError(path, "too_slow", f"gives no frame for {taken:.0f} s of decoding")
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(path, "corrupt_stream", f"cannot be decoded: {error.strerror}") from error


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet | None]:
    """The stream's packets; None at the end lets the decoder give what it holds back.

    PyAV asks for that itself, but stumbles where the file has a stream more than when it was opened.
    """
    asked = False
    try:
        for packet in container.demux(stream):
            asked = packet.size == 0
            yield packet
    except IndexError:
        if not asked:
            yield None


def origin(stream: VideoStream) -> float:
    """The time stamp of the first frame in seconds; not 0 in a file that was cut out of another."""
    return float((stream.start_time or 0) * stream.time_base)
