"""Resizing as torchvision's without antialias, on numbers that may leave 0 to 255, by sums of bytes.

A resized row is a weighted sum of two or four rows, so resizing is two sparse matrix products with a transposition in
between. Unlike torch's own resizing this reads bytes, makes no row or column that a crop throws away, and always adds
whole rows: less than a fifth of the time on a CPU, and the same numbers to a rounding error.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

Kernel = Literal["bilinear", "bicubic"]
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]
UNCHANGED: Colours = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_SHARPNESS = -0.75  # of torch's cubic
_QUANTISED = torch.tensor([1.0, 0.0]).view(torch.uint8)  # what bytes are multiplied by, and what is added
_ALIASED = 256  # transposing to rows of a multiple of so many floats is slow: they share a few places of the caches


def room(count: int, height: int, width: int) -> UInt8[Tensor, "count longer width 3"]:
    """Memory for pictures. Below each are the two numbers that torch's sums of quantised rows read at the end of a row,
    here a column."""
    longer = torch.from_numpy(np.empty((count, height + len(_QUANTISED), width, 3), np.uint8))
    longer[:, height:] = _QUANTISED[:, None, None]
    return longer


def pictures_in(longer: UInt8[Tensor, "t longer w 3"]) -> UInt8[Tensor, "t 3 h w"]:
    """The pictures in memory that `room` made: an NCHW view of NHWC, so no copy, and networks prefer that layout."""
    return longer[:, : -len(_QUANTISED)].permute(0, 3, 1, 2)


def as_columns(pixels: UInt8[Tensor, "t 3 h w"]) -> Shaped[Tensor, "t w column"]:
    """What `Resize` reads: column after column, and in each its red, its green and its blue from top to bottom.

    On a CPU they stay bytes, a quarter of the traffic, and end as those of `room`.
    """
    count, _, height, width = pixels.shape
    pixels = pixels.permute(0, 2, 3, 1)
    if pixels.device.type != "cpu":
        return _transposed(pixels.flatten(2).float()).view(count, width, -1)
    longer = room(count, height, width)
    longer[:, :height] = pixels
    return columns_of_room(longer)


def columns_of_room(longer: UInt8[Tensor, "t longer w 3"]) -> UInt8[Tensor, "t w column"]:
    """As `as_columns`, of pictures that lie in memory that `room` made: without a copy."""
    return _transposed(longer.flatten(2)).view(len(longer), longer.shape[2], -1)


def _transposed(tables: Shaped[Tensor, "t m n"]) -> Shaped[Tensor, "t n m"]:
    """In memory too: as channels of one pixel that are shuffled, which on a CPU is five times as fast as a copy."""
    count, rows, columns = tables.shape
    size = rows * columns
    pixels = tables.contiguous().as_strided((count, size, 1, 1), (size, 1, size, size))
    return torch.channel_shuffle(pixels, rows).view(count, columns, rows)


@dataclass(frozen=True)
class Taps:
    """For every row that comes out, which rows go in, and their weights."""

    index: Int[Tensor, "out taps"]
    weight: Float[Tensor, "out taps"]

    def weigh(self, table: Shaped[Tensor, "rows _"]) -> Float[Tensor, "out n"]:
        """Weighted sums of the table's rows, which are floats, or bytes that end as those of `as_columns`."""
        if table.dtype == torch.uint8:
            sums = torch.ops.quantized.embedding_bag_byte_rowwise_offsets
            return sums(table, self.index, per_sample_weights=self.weight)
        return F.embedding_bag(self.index, table, per_sample_weights=self.weight, mode="sum")

    def repeated(self, count: int, length: int) -> "Taps":
        """For so many tables of `length` rows, one below the other."""
        starts = length * torch.arange(count)[:, None, None]
        return Taps((starts + self.index).flatten(0, 1), self.weight.repeat(count, 1))

    def to(self, device: torch.device) -> "Taps":
        return Taps(self.index.to(device), self.weight.to(device))


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
        colours: Colours = UNCHANGED,
    ) -> None:
        kept = Window(0, 0, *new_size) if window is None else window
        spare = 0 if kept.width % _ALIASED else 8
        self._columns = taps(size[1], new_size[1], kernel, kept.left, kept.width + spare)
        self._rows = taps(size[0], new_size[0], kernel, kept.top, kept.height)
        self._kept, self._size = kept, size
        self._mean, self._deviation = torch.tensor(colours)[..., None, None]
        # They are the same for every chunk, so they are made once.
        self._column_taps: dict[tuple[int, int, torch.device], Taps] = {}
        self._row_taps: dict[tuple[int, int, int, torch.device], tuple[Taps, Tensor]] = {}

    def __call__(self, pictures: Shaped[Tensor, "t w column"]) -> Float[Tensor, "t 3 new_h new_w"]:
        """Of pictures that `as_columns` gave."""
        count, width, length = pictures.shape
        columns = self._taps_of_columns(count, width, pictures.device)
        narrow = columns.weigh(pictures.flatten(0, 1)).unflatten(0, (count, -1))
        rows, offset = self._taps_of_rows(count, length // 3, narrow.shape[2], pictures.device)
        small = rows.weigh(_transposed(narrow).flatten(0, 1)).view(count, 3, self._kept.height, -1)
        kept = small[..., : self._kept.width]
        return kept.add_(offset) if kept.is_contiguous() else kept + offset

    def _taps_of_columns(self, count: int, width: int, device: torch.device) -> Taps:
        key = (count, width, device)
        if key not in self._column_taps:
            self._column_taps[key] = self._columns.repeated(count, width).to(device)
        return self._column_taps[key]

    def _taps_of_rows(self, count: int, apart: int, length: int, device: torch.device) -> tuple[Taps, Tensor]:
        """Of pictures `length` rows high, whose colours begin so many rows `apart`; what is added to a colour."""
        key = (count, apart, length, device)
        if key not in self._row_taps:
            colours = self._rows.repeated(3, apart)
            scale = (1 / 255 / self._deviation).repeat(1, self._kept.height, 1).flatten(0, 1)
            rows = Taps(colours.index, colours.weight * scale).repeated(count, length)
            self._row_taps[key] = rows.to(device), (-self._mean / self._deviation).to(device)
        return self._row_taps[key]
