"""Resizing as VBench's networks expect it: torchvision's without antialias, on numbers that may leave 0 to 255.

A resized row is a weighted sum of two or four rows, so resizing is two sparse matrix products. Unlike torch's own
resizing this reads 8-bit pictures as they are decoded, touches no row or column that a crop throws away, and works on
pixels side by side in memory: five times less work on a CPU, and the same numbers to a rounding error.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

Kernel = Literal["bilinear", "bicubic"]
_SHARPNESS = -0.75  # of torch's cubic


@dataclass(frozen=True)
class Taps:
    """For every row that comes out, which rows go in, and their weights."""

    index: Int[Tensor, "out taps"]
    weight: Float[Tensor, "out taps"]

    @property
    def first(self) -> int:
        return int(self.index.min())

    @property
    def end(self) -> int:
        return int(self.index.max()) + 1


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
    """Pictures of one size to another.

    Args:
        size: (height, width) of what comes in.
        new_size: likewise after resizing.
        kernel: how.
        window: what is kept; all if None.
    """

    def __init__(
        self, size: tuple[int, int], new_size: tuple[int, int], kernel: Kernel, window: Window | None = None
    ) -> None:
        kept = Window(0, 0, *new_size) if window is None else window
        self.rows = taps(size[0], new_size[0], kernel, kept.top, kept.height)
        self.columns = taps(size[1], new_size[1], kernel, kept.left, kept.width)

    def __call__(self, pixels: UInt8[Tensor, "t 3 h w"]) -> Float[Tensor, "t 3 new_h new_w"]:
        """Numbers of about 0 to 255; in memory pixels of one column lie side by side."""
        rows, columns = self.rows, self.columns
        pictures = pixels[:, :, rows.first : rows.end, columns.first : columns.end].permute(0, 2, 3, 1)
        high = _weigh(pictures.float(memory_format=torch.contiguous_format), rows)  # t, row, column, colour
        return _weigh(high.transpose(1, 2).contiguous(), columns).permute(0, 3, 2, 1)


def _weigh(pictures: Float[Tensor, "t rows columns 3"], wanted: Taps) -> Float[Tensor, "t out columns 3"]:
    count, rows = pictures.shape[:2]
    start = torch.arange(count, device=pictures.device)[:, None, None] * rows
    index = (start + (wanted.index - wanted.first).to(pictures.device)).flatten(0, 1)
    weight = wanted.weight.to(pictures.device).repeat(count, 1)
    table = pictures.reshape(count * rows, -1)
    summed = F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")
    return summed.view(count, -1, *pictures.shape[2:])


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
