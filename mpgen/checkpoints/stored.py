"""A tensor that lies somewhere and is read when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stored:
    """A tensor on disk.

    Args:
        shape: its shape.
        dtype: its dtype.
        read: reads it; what it gives may be mapped from the file, so copy it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


Source = Mapping[str, Stored]
