"""What can be seen of a video while it is made."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import ClassVar

from tqdm import tqdm

from mpgen.backbones.base import Context
from mpgen.generation.reading import Reader, Reading
from mpgen.sampling import Level, VelocityFn
from mpgen.tensors import Latents


class Watcher:
    """Callbacks of generation. A subclass overrides those that it needs; without a watcher none of this is computed.

    A KeyboardInterrupt out of any of them ends the video, which stays playable.
    """

    wants_readings: ClassVar[bool] = False
    """Whether `read` is called: it costs a section one more attention."""

    def denoised(self, sections: range, clean: Callable[[], Latents]) -> None:
        """After every forward.

        Args:
            sections: that are denoised, by number, side by side in the order of time.
            clean: computes the network's present estimate of their clean latents.
        """

    def read(self, sections: range, reading: Reading) -> None:
        """What these sections read, in the middle one of their forwards."""

    def made(self, seconds: float) -> None:
        """Once a section's frames are written, with its wall time."""


class Steps(Watcher):
    """Shows on a progress bar of sections how far the present one is.

    Args:
        bar: to show it on.
        steps: of the sampler; a section may take a multiple of them.
        watcher: another watcher, whose callbacks are called too.
    """

    def __init__(self, bar: tqdm, steps: int, watcher: Watcher | None):
        self.bar, self.steps, self.watcher = bar, steps, Watcher() if watcher is None else watcher
        self.wants_readings = self.watcher.wants_readings
        self.sections, self.done, self.shown = range(0), 0, 0.0

    def denoised(self, sections: range, clean: Callable[[], Latents]) -> None:
        self.done = 1 + (self.done if sections == self.sections else 0)
        self.sections = sections
        self.bar.set_postfix_str(f"step {self.done} of {max(self.done, self.steps)}", refresh=False)
        if (now := time.monotonic()) - self.shown > self.bar.mininterval:
            self.bar.refresh()
            self.shown = now
        self.watcher.denoised(sections, clean)

    def read(self, sections: range, reading: Reading) -> None:
        self.watcher.read(sections, reading)


class Watched:
    """A velocity function that calls a watcher after every forward pass.

    Args:
        velocity: the network.
        sections: that it denoises.
        steps: forwards to come.
        context: of the sections.
        num_own: tokens of the sections.
        watcher: whose callbacks are called.
    """

    def __init__(
        self, velocity: VelocityFn, sections: range, steps: int, context: Context, num_own: int, watcher: Watcher
    ):
        self.velocity, self.sections, self.watcher = velocity, sections, watcher
        self.context, self.num_own = context, num_own
        self.until_read = steps // 2 if watcher.wants_readings else -1

    def __call__(self, x: Latents, sigma: Level) -> Latents:
        with self._reading() if self.until_read == 0 else nullcontext():
            velocity = self.velocity(x, sigma)
        self.until_read -= 1
        level = sigma if isinstance(sigma, (int, float)) else sigma[None, None, :, None, None]
        self.watcher.denoised(self.sections, lambda: x - level * velocity)
        return velocity

    @contextmanager
    def _reading(self) -> Iterator[None]:
        reader = Reader(self.context, self.num_own)
        with reader.reading():
            yield
        if (reading := reader.seen) is not None:  # a cache may have skipped the forward
            self.watcher.read(self.sections, reading)
