"""Resizing as VBench's networks expect it: torchvision's without antialias, on numbers that may leave 0 to 255.

A resized row is a weighted sum of two or four rows, so resizing is two sparse matrix products with a transposition in
between. Unlike torch's own resizing this reads pictures as they are decoded, pixel after pixel, touches no row or
column that a crop throws away, and always adds whole rows: a third of the time on a CPU, and the same numbers to a
rounding error.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Kernel = Literal["bilinear", "bicubic"]
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]
_SHARPNESS = -0.75  # of torch's cubic


@dataclass(frozen=True)
class Taps:
    """For every row that comes out, which rows go in, and their weights."""

    index: Int[Tensor, "out taps"]
    weight: Float[Tensor, "out taps"]

    def weigh(self, table: Float[Tensor, "rows n"]) -> Float[Tensor, "out n"]:
        """Weighted sums of the table's rows."""
        return F.embedding_bag(self.index, table, per_sample_weights=self.weight, mode="sum")


def taps(length: int, new_length: int, kernel: Kernel, first: int = 0, count: int | None = None) -> Taps:
    """Of `count` rows from the `first` on, of `length` rows resized to `new_length`; in float32, as torch has it."""
    place = torch.arange(first, new_length if count is None else first + count, dtype=torch.float32) + 0.5
    place = place * (torch.tensor(length, dtype=torch.float32) / new_length) - 0.5
    if kernel == "bilinear":
        place = place.clamp(min=0)
    before = place.floor()
    part = (place - before)[:, None]
    if kernel == "bilinear":
        index, weight = before[:, None] + torch.arange(2), torch.cat([1 - part, part], 1)
    else:
        distance = (part + 1 - torch.arange(4)).abs()
        index, weight = before[:, None] + torch.arange(-1, 3), _cubic(distance)
    return Taps(index.long().clamp(0, length - 1), weight)


def _cubic(distance: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    a, x = _SHARPNESS, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, far)


@dataclass(frozen=True)
class Window:
    """The part of a resized picture that is kept."""

    top: int
    left: int
    height: int
    width: int


class Resize:
    """Pictures of one size to another, and of 0 to 255 to what a network was trained on: (x / 255 - mean) / deviation.

    Args:
        size: (height, width) of what comes in.
        new_size: likewise after resizing.
        kernel: how.
        window: what is kept; all if None.
        colours: mean and deviation of each colour.
    """

    def __init__(
        self,
        size: tuple[int, int],
        new_size: tuple[int, int],
        kernel: Kernel,
        window: Window | None = None,
        colours: Colours | None = None,
    ) -> None:
        kept = Window(0, 0, *new_size) if window is None else window
        rows = taps(size[0], new_size[0], kernel, kept.top, kept.height)
        columns = taps(size[1], new_size[1], kernel, kept.left, kept.width)
        self.top, self.left = int(rows.index.min()), int(columns.index.min())
        self.bottom, self.right = int(rows.index.max()) + 1, int(columns.index.max()) + 1
        self._rows = Taps(rows.index - self.top, rows.weight)
        self._columns = Taps(columns.index - self.left, columns.weight / 255)
        self._colours = None if colours is None else torch.tensor(colours)
        self._tables = cache(self._make_tables)

    def __call__(self, pictures: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "t 3 new_h new_w"]:
        """In memory a column follows the other, and in it a colour the other."""
        count = len(pictures)
        part = pictures[:, :, self.top : self.bottom, self.left : self.right].permute(0, 2, 3, 1)
        rows, columns, scale, offset = self._tables(count, pictures.device)
        high = rows.weigh(part.reshape(count * part.shape[1], -1))
        # Two axes, and no more: torch transposes these much faster.
        wide = columns.weigh(high.t().contiguous().view(part.shape[2], -1))
        if self._colours is not None:
            wide = torch.addcmul(offset, wide, scale)
        return wide.view(len(wide), 3, count, -1).permute(2, 1, 3, 0)

    def _make_tables(self, count: int, device: torch.device) -> tuple[Taps, Taps, Tensor | None, Tensor | None]:
        """What `count` pictures on a device need: the same rows of each, the columns of all, and (x * scale + offset).

        They are the same for every chunk, so they are made once.
        """
        starts = torch.arange(count)[:, None, None] * (self.bottom - self.top)
        index = (starts + self._rows.index).flatten(0, 1)
        rows = Taps(index.to(device), self._rows.weight.repeat(count, 1).to(device))
        columns = Taps(self._columns.index.to(device), self._columns.weight.to(device))
        if self._colours is None:
            return rows, columns, None, None
        mean, deviation = self._colours.to(device).repeat_interleave(len(index), 1)
        return rows, columns, 1 / deviation, -mean / deviation


def shorter_side(height: int, width: int, side: int) -> tuple[int, int]:
    """The size whose shorter side is `side`, as torchvision rounds it."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def at_most(height: int, width: int, side: int) -> tuple[int, int]:
    """The size whose longer side is `side` if it is longer, as VBench rounds it."""
    longer = max(height, width)
    if longer <= side:
        return height, width
    scale = side / longer
    return int(scale * height), int(scale * width)


def centre(height: int, width: int, side: int) -> Window:
    """The square in the middle, as torchvision rounds it."""
    return Window(round((height - side) / 2), round((width - side) / 2), side, side)
