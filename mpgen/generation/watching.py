"""What can be seen of a video while it is made."""

from collections.abc import Callable
from dataclasses import dataclass

from mpgen.sampling import Level, VelocityFn
from mpgen.tensors import Latents


class Watcher:
    """Is told as a video grows; a subclass has the methods that it wants. It costs nothing where there is none.

    A KeyboardInterrupt out of any of them ends the video, which stays playable.
    """

    def denoised(self, sections: range, clean: Callable[[], Latents]) -> None:
        """After every forward.

        Args:
            sections: that are denoised, by number, side by side in the order of time.
            clean: computes the network's present estimate of their clean latents.
        """

    def made(self, seconds: float) -> None:
        """Once a section's frames are written, with its wall time."""


@dataclass(frozen=True)
class Watched:
    """A velocity function whose forwards are told.

    Args:
        velocity: the network.
        sections: that it denoises.
        watcher: is told.
    """

    velocity: VelocityFn
    sections: range
    watcher: Watcher

    def __call__(self, x: Latents, sigma: Level) -> Latents:
        velocity = self.velocity(x, sigma)
        level = sigma if isinstance(sigma, (int, float)) else sigma[None, None, :, None, None]
        self.watcher.denoised(self.sections, lambda: x - level * velocity)
        return velocity
