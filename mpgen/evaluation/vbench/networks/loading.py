"""Weight files as named tensors, and the one way they get into a network: every name and shape must fit.

Formats: pickled tensors (read without executing anything), safetensors, TorchScript archives (OpenAI's CLIP), .npz.
"""

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mpgen.checkpoints.plain import one_line
from mpgen.checkpoints.sources import load_plain
from mpgen.errors import UserError

Tensors = dict[str, Tensor]


def read_tensors(path: Path) -> Tensors:
    """The tensors of a file.

    Raises:
        UserError: when it is damaged, would execute code, or holds something else.
    """
    return _FORMATS.get(path.suffix, _read_pickle)(path)


def rename(tensors: Mapping[str, Tensor], parts: Mapping[str, str]) -> Tensors:
    """The same tensors, each dotted part of a name replaced where `parts` knows it."""
    return {".".join(parts.get(part, part) for part in name.split(".")): tensor for name, tensor in tensors.items()}


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """Those whose name begins with the prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copies all tensors into the network, as float32.

    Raises:
        UserError: when a name is missing or unexpected, or a shape differs.
    """
    wanted = network.state_dict()
    # BatchNorm's counter of batches, which older files lack and no forward pass reads
    absent = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    faults = {
        "missing": absent,
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": [n for n, tensor in tensors.items() if n in wanted and tensor.shape != wanted[n].shape],
    }
    said = [f"{len(names)} {kind} ({', '.join(names[:3])}, ...)" for kind, names in faults.items() if names]
    if said:
        raise UserError(
            f"{path} does not fit {type(network).__name__}: {'; '.join(said)}: wanted the file of that name"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            wanted[name].copy_(tensor)


def _read_pickle(path: Path) -> Tensors:
    content = _read_archive(path) if _is_torchscript(path) else load_plain(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise UserError(f"{path} holds something else than named weights: wanted the published file")
    return dict(content)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_archive(path: Path) -> Tensors:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
        except RuntimeError as error:
            raise UserError(f"{path} is damaged or not a TorchScript archive: {one_line(error)}") from error


def _read_safetensors(path: Path) -> Tensors:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {one_line(error)}") from error


def _read_npz(path: Path) -> Tensors:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile, TypeError) as error:
        raise UserError(f"{path} is damaged or not a .npz file of plain arrays: {one_line(error)}") from error


_FORMATS: dict[str, Callable[[Path], Tensors]] = {".safetensors": _read_safetensors, ".npz": _read_npz}
