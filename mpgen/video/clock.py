"""Frames in time: stamps that rise, the nearest frame for each tick, and what a file says of its rate and length.

Frames are chosen by their own time stamps, never by counting at an average rate, because real files start late, drop
frames and lie about their length. But stamps may repeat or go back: in AVI files with B-frames, where files were
joined, where a recorder's clock began anew. `timed_frames` mends them, so that whoever reads may rely on a clock that
rises by steps of bounded length.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mpgen.video.decoding import decode_frames, origin
from mpgen.video.errors import VideoError

SAME_RATE = 0.005  # sources this close to the wanted rate (23.976 for 24) give their frames as they are
MIN_RATE = 5 / 6  # of the wanted rate (20 for 24); below, too many frames would be shown twice
MAX_GAP_SECONDS = 0.25  # a longer pause between two frames is a cut or a freeze, not a variable rate
LONGEST_GAP_SECONDS = 60.0  # a longer one is a damaged clock: showing a frame for so long would be an endless still
LOOKAHEAD = 3  # stamps put in order; B-frames of AVI files are one off
MIN_DECODED = 0.98  # of what the file declares


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame.

    Args:
        picture: as it is stored.
        seconds: since the first frame of the file; rises from frame to frame.
        previous: the time of the frame before it; None where decoding began.
        mended: its stamp did not rise, so its time is another.
    """

    picture: VideoFrame
    seconds: float
    previous: float | None
    mended: bool = False

    @property
    def follows_gap(self) -> bool:
        return self.previous is not None and self.seconds - self.previous > MAX_GAP_SECONDS


class RisingClock:
    """Makes times that rise of stamps that may not.

    A stamp that goes back by more than a variable rate explains is a clock that began anew: time goes on where it was.
    Smaller steps back are stamps in the wrong order, and are sorted. What then still repeats comes one frame later.

    Args:
        frame_seconds: how long a frame usually lasts.
    """

    def __init__(self, frame_seconds: float) -> None:
        self.frame_seconds = frame_seconds
        self.latest: float | None = None
        self._shift = 0.0
        self._waiting: list[float] = []

    def push(self, stamp: float) -> bool:
        """Takes the stamp of the next frame; whether it rose."""
        seconds = stamp + self._shift
        rises = self.latest is None or seconds > self.latest
        if self.latest is not None and seconds < self.latest - MAX_GAP_SECONDS:
            self._shift += self.latest + self.frame_seconds - seconds
            seconds = self.latest + self.frame_seconds
        self.latest = seconds if self.latest is None else max(self.latest, seconds)
        heappush(self._waiting, seconds)
        return rises

    def pop(self, previous: float | None) -> float:
        """The time of the oldest frame that has none yet, after `previous`."""
        seconds = heappop(self._waiting)
        return seconds if previous is None or seconds > previous else previous + self.frame_seconds


def timed_frames(
    path: Path, container: InputContainer, stream: VideoStream, start_seconds: float | int
) -> Iterator[TimedFrame]:
    """Frames with times that rise, from the last keyframe at or before `start_seconds`.

    Raises:
        VideoError: reason `corrupt_stream`, also for a damaged picture from `start_seconds` on; `variable_gap` for a
            pause that no video has; or of `decode_frames`.
    """
    clock = RisingClock(_frame_seconds(stream))
    waiting: deque[tuple[VideoFrame, bool]] = deque()
    previous: float | None = None
    failed: VideoError | None = None
    pictures = decode_frames(path, container, stream, start_seconds)
    while True:
        try:
            picture = next(pictures, None)
            if picture is not None and picture.time is None:
                raise VideoError(path, "corrupt_stream", "has a frame without a time stamp")
        except VideoError as error:  # raised when the frames before it are given
            picture, failed = None, error
        if picture is not None:
            mended = not clock.push(picture.time - origin(stream))
            waiting.append((picture, mended))
        while waiting and (picture is None or len(waiting) > LOOKAHEAD):
            oldest, mended = waiting.popleft()
            seconds = clock.pop(previous)
            if seconds >= start_seconds and oldest.is_corrupt:
                raise VideoError(path, "corrupt_stream", f"is damaged at {seconds:.2f} s")
            if previous is not None and seconds - previous > LONGEST_GAP_SECONDS:
                gap = f"has no frame from {previous:.2f} s to {seconds:.2f} s"
                raise VideoError(path, "variable_gap", gap)
            yield TimedFrame(oldest, seconds, previous, mended)
            previous = seconds
        if failed is not None:
            raise failed
        if picture is None:
            return


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
            shown_seconds = min(arrived.seconds - held.seconds, MAX_GAP_SECONDS)
            # a tie goes to the earlier frame; the later one's own time is never a tie, however near they are
            while wanted < arrived.seconds and abs(held.seconds - wanted) <= abs(arrived.seconds - wanted) + 1e-6:
                yield held
                on_time = same_rate and abs(held.seconds - wanted) < tick / 4
                wanted = (held.seconds if on_time else wanted) + tick
        held = arrived
    while held is not None and wanted < held.seconds + shown_seconds - tick / 4:
        yield held
        wanted += tick


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


def _frame_seconds(stream: VideoStream) -> float:
    """The usual length of a frame; a rate that no camera has is not believed."""
    rate = source_rate(stream) or 24.0
    return 1 / min(max(rate, 1.0), 240.0)
