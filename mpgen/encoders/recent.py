"""What an encoder gave lately, found again by content: one prompt and start image are asked for many times."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The latest `size` values by their keys."""

    def __init__(self, size: int):
        self.size = size
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def look_up(self, keys: Sequence[Key], make: Callable[[list[Key]], Sequence[Value]]) -> list[Value]:
        """The value of each key; `make` is called once, with those that are not kept, each of them once."""
        missing = list(dict.fromkeys(key for key in keys if key not in self._kept))
        made = dict(zip(missing, make(missing), strict=True)) if missing else {}
        values = [made[key] if key in made else self._kept[key] for key in keys]
        for key, value in zip(keys, values, strict=True):
            self._kept[key] = value
            self._kept.move_to_end(key)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)
        return values


def content_key(tensor: Tensor) -> bytes:
    """A hash of the shape, the dtype and all values."""
    digest = hashlib.sha256(f"{list(tensor.shape)} {tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()
