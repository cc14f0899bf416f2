"""Frames of one video in chunks, and what looks at them.

One decode feeds every probe. A chunk is a slice of a video, never the whole, so memory does not grow with its length.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from torch import Tensor, nn


@dataclass(frozen=True)
class Frames:
    """Consecutive frames of one video.

    Args:
        pixels: RGB, 0 to 255.
        first: index in the video of the first of them.
        fps: the video's frames a second.
        last: whether the video ends here.
    """

    pixels: UInt8[Tensor, "t 3 h w"]
    first: int
    fps: float
    last: bool


class Probe(nn.Module, ABC):
    """Looks at every frame of one video, chunk by chunk, and says what it saw; the chunk size changes nothing.

    A probe remembers what it needs across the chunks of one video and nothing across videos.
    """

    name: str

    @abstractmethod
    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        """Forget the last video.

        Raises:
            UserError: when it cannot look at videos of this size.
        """

    @abstractmethod
    def feed(self, frames: Frames) -> None:
        """Look at the next chunk."""

    @abstractmethod
    def finish(self) -> dict[str, np.ndarray]:
        """One row a frame (or a pair of frames) by name, such as `imaging/score`; `.../frame` holds the indices of the
        frames where these are not all frames.
        """
