"""Frames of one video in chunks, and the probes that measure them.

One decode feeds every probe. A chunk is a slice of a video, never the whole, so memory does not grow with its length.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from mpgen.evaluation.resize import as_columns, columns_of_room, pictures_in
from mpgen.evaluation.trace import Series

BATCH_FRAMES = 32  # on a GPU
T = TypeVar("T")


@dataclass(frozen=True)
class Frames:
    """Consecutive frames of one video.

    Args:
        pixels: RGB, 0 to 255.
        first: index in the video of the first of them.
        fps: the video's frames per second.
        last: whether the video ends here.
        room: the memory that `cpu.resize.room` made, if the pixels are all that lies in it: saves a copy.
    """

    pixels: UInt8[Tensor, "t 3 h w"]
    first: int
    fps: float
    last: bool
    room: UInt8[Tensor, "_ _ _ 3"] | None = None
    _shared: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """A view of these frames that several probes need, made for the first that asks; `key` names it."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    @cached_property
    def columns(self) -> tuple[Shaped[Tensor, "t w column"], ...]:
        """The pixels as `cpu.resize.Resize` reads them, in the batches that networks take; made once for all probes."""
        # A part of the pixels, or a copy on another device, may have come with the memory of the whole.
        on_cpu = self.pixels.device.type == "cpu"
        if on_cpu and self.room is not None and self.pixels.is_set_to(pictures_in(self.room)):
            return tuple(map(columns_of_room, batches(self.room, BATCH_FRAMES)))
        return tuple(map(as_columns, batches(self.pixels, BATCH_FRAMES)))


def batches(pictures: Tensor, size: int) -> tuple[Tensor, ...]:
    """In parts of `size` on a GPU; one by one on a CPU, where what fits into its caches is faster."""
    return pictures.split(1 if pictures.device.type == "cpu" else size)


class Rows:
    """One row after the other in a block of memory that doubles when it is full.

    Rows by themselves would lie between frames in memory, and where one lies no frame fits again: a minute would cost
    gigabytes.
    """

    def __init__(self) -> None:
        self._count = 0
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
            return np.zeros(0, np.float32)
        return self._block[: self._count].cpu().numpy().copy()


class Probe(nn.Module, ABC):
    """Measures every frame of one video, chunk by chunk; the chunk size changes nothing.

    A probe remembers what it needs across the chunks of one video and nothing across videos. `name` is the name of its
    series in a trace.
    """

    name: str

    @abstractmethod
    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        """Forgets the last video.

        Raises:
            UserError: when it cannot measure videos of this size.
        """

    @abstractmethod
    def feed(self, frames: Frames) -> None:
        """Measures the next chunk."""

    @abstractmethod
    def finish(self) -> Series:
        """What it has measured, which frame each row belongs to and which other frames each row depends on."""
