"""Frames of one video in chunks, and what looks at them.

One decode feeds every probe. A chunk is a slice of a video, never the whole, so memory does not grow with its length.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from mpgen.evaluation.precision import batches
from mpgen.evaluation.resize import as_columns, columns_of_room, pictures_in

BATCH_FRAMES = 32  # on a GPU


@dataclass(frozen=True)
class Frames:
    """Consecutive frames of one video.

    Args:
        pixels: RGB, 0 to 255.
        first: index in the video of the first of them.
        fps: the video's frames a second.
        last: whether the video ends here.
        longer: memory that `resize.room` made; if the pixels are all that lies in it, their columns need no copy.
    """

    pixels: UInt8[Tensor, "t 3 h w"]
    first: int
    fps: float
    last: bool
    longer: UInt8[Tensor, "_ _ _ 3"] | None = None

    @cached_property
    def columns(self) -> tuple[Shaped[Tensor, "t w column"], ...]:
        """The pixels as `resize.Resize` reads them, in the batches that networks take; made once for all probes."""
        # A part of the pixels, or a copy on another device, may have come with the memory of the whole.
        on_cpu = self.pixels.device.type == "cpu"
        if on_cpu and self.longer is not None and self.pixels.is_set_to(pictures_in(self.longer)):
            return tuple(map(columns_of_room, batches(self.longer, BATCH_FRAMES)))
        return tuple(map(as_columns, batches(self.pixels, BATCH_FRAMES)))


class Rows:
    """What a probe says of one frame after the other, in one block of memory that doubles when it is full.

    Rows by themselves would lie between frames in memory, and where one lies no frame fits again: a minute would cost
    gigabytes.

    Args:
        shape: of a row, for when there is none.
    """

    def __init__(self, *shape: int) -> None:
        self._shape, self._count = shape, 0
        self._block: Tensor | None = None

    def add(self, rows: Float[Tensor, "n *d"]) -> None:
        end = self._count + len(rows)
        if self._block is None or end > len(self._block):
            block = torch.empty(max(1024, 2 * end), *rows.shape[1:], device=rows.device)
            if self._block is not None:
                block[: self._count] = self._block[: self._count]
            self._block = block
        self._block[self._count : end] = rows
        self._count = end

    def numpy(self) -> Float[np.ndarray, "n *d"]:
        if self._block is None:
            return np.zeros((0, *self._shape), np.float32)
        return self._block[: self._count].cpu().numpy().copy()


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
