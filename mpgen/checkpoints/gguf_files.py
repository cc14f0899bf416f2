"""Weights in a GGUF file, by the `gguf` package: whatever its blocks of few bits are, they are read as numbers.

Publishers of video models write the original names, and the shape of tensors with five axes beside them, because the
format has four.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpgen.checkpoints.plain import one_line
from mpgen.checkpoints.stored import Source, Stored
from mpgen.errors import UserError

SHAPE = "comfy.gguf.orig_shape."  # before a tensor's name
WHOLE = {"F32": torch.float32, "F16": torch.float16}  # the rest is read as bf16, which holds more than they do


def open_gguf(path: Path) -> Source:
    """The tensors of a file; nothing is read but its header.

    Raises:
        UserError: `gguf` is not installed, or the file is damaged.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise UserError(f"{path} needs the package gguf: wanted pip install 'mpgen[gguf]'") from error
    try:
        reader = GGUFReader(path)
        tensors = reader.tensors
    except Exception as error:  # it raises whatever it stumbles over
        raise UserError(f"{path} is damaged or not a GGUF file: {one_line(error)}") from error
    found: dict[str, Stored] = {}
    for tensor in tensors:
        kind = tensor.tensor_type
        field = reader.get_field(SHAPE + tensor.name)
        shape = reversed(tensor.shape.tolist()) if field is None else (int(field.parts[i][0]) for i in field.data)
        dtype = WHOLE.get(kind.name, torch.bfloat16)
        found[tensor.name] = Stored(size := tuple(shape), dtype, partial(_read, path, tensor, size))
    return found


def _read(path: Path, tensor: Any, shape: tuple[int, ...]) -> Tensor:
    from gguf.quants import dequantize

    try:
        numbers = np.array(dequantize(tensor.data, tensor.tensor_type))
    except NotImplementedError as error:
        kind = tensor.tensor_type.name
        raise UserError(f"{path}: {tensor.name} is in {kind}, which gguf cannot read: wanted another file") from error
    return torch.from_numpy(numbers).reshape(shape)
