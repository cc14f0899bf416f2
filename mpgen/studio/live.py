"""The video that is being made, as others see it: previews, pace, what is read; and how it is paused and stopped."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from mpgen.generation.preview import Previewing, Strip
from mpgen.generation.reading import Reading
from mpgen.generation.watching import Watcher
from mpgen.tensors import Clip, Latents

RECENT = 20  # sections that the pace is measured over
MOST_READINGS = 240  # sections whose readings are kept
AHEAD_SECONDS = 2.0  # of video that may be there before it can have been seen, at its own pace


@dataclass(frozen=True)
class Progress:
    """How far a video is.

    Args:
        made: sections so far.
        wanted: sections in all; None for an endless one.
        sections_per_second: of wall time, over the last ones; 0 until there is one.
        times_real_time: seconds of video made in a second.
        seconds_left: of wall time; None where nobody knows.
        paused: whether it waits.
        previews: shown so far.
        readings: of the last sections, with their numbers.
    """

    made: int
    wanted: int | None
    sections_per_second: float
    times_real_time: float
    seconds_left: float | None
    paused: bool
    previews: int
    readings: tuple[tuple[int, Reading], ...]


class Live(Watcher):
    """Watches one video for other threads, which pause and stop it.

    Args:
        preview: from latents to frames.
        wanted: sections to make; None for an endless one.
        section_seconds: of video in a section.
        own_pace: no faster than the video plays.
        readings: whether to record what each section reads.
    """

    def __init__(
        self,
        preview: Callable[[Latents], Clip],
        wanted: int | None,
        section_seconds: float,
        own_pace: bool = False,
        readings: bool = False,
    ):
        self.wants_readings = readings
        self.wanted, self.section_seconds, self.own_pace = wanted, section_seconds, own_pace
        self.previewing = Previewing(preview, self._show)
        self.picture: tuple[int, bytes] = (0, b"")  # a number that rises, and a JPEG
        self.count, self.began, self.waited = 0, time.perf_counter(), 0.0
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.readings: deque[tuple[int, Reading]] = deque(maxlen=MOST_READINGS)
        self._go, self._stop = threading.Event(), threading.Event()
        self._go.set()

    def pause(self) -> None:
        """It waits at its next forward."""
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def stop(self) -> None:
        """It ends at its next forward, and what is there stays."""
        self._stop.set()
        self._go.set()

    def progress(self) -> Progress:
        recent = list(self.recent)
        pace = len(recent) / sum(recent) if recent and sum(recent) > 0 else 0.0
        left = None if self.wanted is None or pace == 0 else (self.wanted - self.count) / pace
        readings, paused = tuple(self.readings), not self._go.is_set()
        fast = pace * self.section_seconds
        return Progress(self.count, self.wanted, pace, fast, left, paused, self.picture[0], readings)

    def denoised(self, sections: range, clean: Callable[[], Latents]) -> None:
        if not self._go.is_set():
            began = time.perf_counter()
            self._go.wait()
            self._rested(time.perf_counter() - began)
        if self._stop.is_set():
            raise KeyboardInterrupt
        self.previewing.denoised(sections, clean)

    def read(self, sections: range, reading: Reading) -> None:
        self.readings.append((sections[0], reading))

    def made(self, seconds: float) -> None:
        self.recent.append(max(0.0, seconds - self.waited))
        self.count, self.waited = self.count + 1, 0.0
        if self.own_pace:
            ahead = self.count * self.section_seconds - (time.perf_counter() - self.began) - AHEAD_SECONDS
            if ahead > 0 and self._stop.wait(ahead):
                raise KeyboardInterrupt

    def _rested(self, seconds: float) -> None:
        """A pause is neither a section's time nor one in which previews were saved up."""
        self.waited += seconds
        self.began += seconds
        self.previewing.began += seconds

    def _show(self, strip: Strip) -> None:
        encoded = BytesIO()
        Image.fromarray(strip).save(encoded, format="jpeg", quality=85)
        self.picture = (self.picture[0] + 1, encoded.getvalue())
