"""Any source of weights as named tensors that are read one at a time, so that loading needs little more than the model.

Sources: a safetensors file; a folder of them, with or without an index; a GGUF file; a Lightning checkpoint of ours; a
pickled file of plain tensors, as some publishers have it. Names of other publishers become our own here, by the
backbone's table.
"""

import json
import pickle
import re
import warnings
import zipfile
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mpgen.backbones.base import Backbone, Rows
from mpgen.checkpoints.gguf_files import open_gguf
from mpgen.checkpoints.plain import one_line
from mpgen.checkpoints.stored import Source, Stored
from mpgen.errors import UserError

PREFIX = "denoiser."  # of the network in a Lightning checkpoint
BACKBONE, MEMORY = OWN = ("backbone.", "memory.")  # of its parts in the network
FULL = "mpgen.safetensors"  # all weights of a model of ours, in a folder that `mpgen export` wrote
PICKLED = (".pt", ".pth", ".bin", ".ckpt")
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U8": torch.uint8,  # ComfyUI's notes
}
NUMBERS = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}  # of one, a LoRA's alpha
GGUF = ".gguf"


def open_source(path: Path) -> Source:
    """The tensors that a file or a folder holds; headers are read, weights are not.

    Raises:
        UserError: when nothing is there, a shard is missing, or a file is damaged or would execute code.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: wanted a .ckpt, a .safetensors file or a folder with released weights")
    if path.is_dir():
        return _open_folder(path)
    if path.suffix == GGUF:
        return open_gguf(path)
    return _open_pickle(path) if path.suffix in PICKLED else _open_safetensors(path)


def find_transformer(path: Path) -> Path:
    """The transformer's own folder, where `path` is that of a whole pipeline."""
    return path / "transformer" if (path / "transformer").is_dir() else path


def find_exported(folder: Path) -> Path:
    """All weights in a folder of `mpgen export`: without a memory they are those of the transformer."""
    return folder / FULL if (folder / FULL).is_file() else folder / "transformer"


def in_own_names(source: Source, backbone: Backbone) -> Source:
    """The source under the denoiser's names; what no table knows stays as it is.

    Args:
        source: with our names, released ones, or those of another publisher that the backbone knows.
        backbone: says which of its parameters a released tensor holds.
    """
    num_rows = {name: len(tensor) for name, tensor in backbone.state_dict().items()}
    renamed: dict[str, Stored] = {}
    for origin, stored in source.items():
        located = {} if origin.startswith(OWN) else backbone.locate(origin, num_rows)
        total = sum(num_rows[name] for name in located)
        if located and stored.shape[:1] != (total,) and origin not in located:
            raise UserError(
                f"{origin} has the shape {list(stored.shape)}: wanted {total} rows, those of {', '.join(located)}"
            )
        for name, rows in located.items():
            whole = rows.pieces == ((0, total),)
            renamed[BACKBONE + name] = stored if whole else _rows_of(stored, rows, num_rows[name])
        if not located:
            renamed[origin if origin.startswith(OWN) else BACKBONE + origin] = stored
    return renamed


def load_plain(path: Path) -> Any:
    """A pickled file, read without executing anything in it; tensors are mapped from the file where it allows that.

    Every byte is looked at, where the file has checksums: torch itself compares none.

    Raises:
        UserError: when the file is damaged or holds more than plain values.
    """
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip and (broken := zipfile.ZipFile(path).testzip()) is not None:
            raise zipfile.BadZipFile(f"{broken} is not what its checksum says")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is damaged, or holds more than weights and plain values: {one_line(error)}") from error
    except Exception as error:  # unpickling what is no pickle raises whatever it stumbles over
        raise UserError(f"{path} is damaged or not a checkpoint: {one_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds keys.

    Raises:
        UserError: when it is missing or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: wanted it beside the weights") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged or not JSON: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no keys: wanted a JSON object")
    return content


def metadata(path: Path) -> dict[str, str]:
    """What the header of a safetensors file says beside names and shapes."""
    with _opened(path) as file:
        return file.metadata() or {}


def _rows_of(stored: Stored, rows: Rows, num_rows: int) -> Stored:
    def read() -> Tensor:
        whole = stored.read()
        return torch.cat([whole[first:end] for first, end in rows.pieces])

    return Stored((num_rows, *stored.shape[1:]), stored.dtype, read)


def _open_folder(folder: Path) -> Source:
    if (folder / FULL).exists():
        return _open_safetensors(folder / FULL)
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if len(indices) > 1:
        raise UserError(f"{folder} holds {len(indices)} indices of shards: wanted one, give the folder only that model")
    if indices:
        return _open_shards(folder, indices[0])
    whole = folder / "diffusion_pytorch_model.safetensors"
    files = [whole] if whole.exists() else sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [p for p in sorted(folder.rglob("*")) if p.suffix in PICKLED and len(p.relative_to(folder).parts) < 3]
        if len(pickled) != 1:
            raise UserError(f"{folder} holds no .safetensors file: wanted a folder with released weights")
        return _open_pickle(pickled[0])
    _check_numbered(folder, [file.name for file in files])
    joined: dict[str, Stored] = {}
    for file in files:
        for name, stored in _open_safetensors(file).items():
            if name in joined:
                raise UserError(f"{folder} holds {name} twice, the second in {file.name}: give the one file to load")
            joined[name] = stored
    return joined


def _open_shards(folder: Path, index: Path) -> Source:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise UserError(f"{index} holds no weight_map: wanted the index that belongs to the shards")
    names = sorted({*places.values()})
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise UserError(
            f"{folder} lacks {', '.join(absent)} of its {len(names)} shards: wanted all that {index.name} lists"
        )
    shards = {name: _open_safetensors(folder / name) for name in names}
    lost = [name for name, file in places.items() if name not in shards[file]]
    if lost:
        raise UserError(f"{folder / places[lost[0]]} does not hold {lost[0]}, which {index.name} places there")
    return {name: shards[file][name] for name, file in places.items()}


def _check_numbered(folder: Path, names: list[str]) -> None:
    """Shards without an index still say how many they are."""
    counts = [re.fullmatch(r".*-(\d+)-of-(\d+)\.safetensors", name) for name in names]
    wanted = {int(match[2]) for match in counts if match}
    if wanted and (len(wanted) > 1 or len(names) != max(wanted)):
        raise UserError(f"{folder} holds {len(names)} of {max(wanted)} shards: wanted all of them")


def _open_safetensors(path: Path) -> Source:
    with _opened(path) as file:
        stored = {}
        for name in file.keys():  # noqa: SIM118 - not a dict
            header = file.get_slice(name)
            shape, spelled = tuple(header.get_shape()), header.get_dtype()
            known = DTYPES | NUMBERS if prod(shape) == 1 else DTYPES
            if spelled not in known:
                raise UserError(f"{path}: {name} holds {spelled}, wanted one of {', '.join(DTYPES)}")
            stored[name] = Stored(shape, known[spelled], partial(_read, path, name))
        return stored


def _read(path: Path, name: str) -> Tensor:
    # Opened for every tensor: a file that stays open keeps all that was read of it mapped.
    with _opened(path) as file:
        return file.get_tensor(name)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {one_line(error)}") from error


def _open_pickle(path: Path) -> Source:
    content = load_plain(path)
    prefix = ""
    if isinstance(content, dict) and "state_dict" in content:
        content, prefix = content["state_dict"], PREFIX
    elif isinstance(content, dict) and isinstance(content.get("module"), dict):
        content = content["module"]  # so the original HunyuanVideo files have it
    scales = path.with_name(f"{path.stem}_map{path.suffix}")  # of weights in 8 bits
    if isinstance(content, dict) and scales.is_file():
        content = content | {f"{layer}.scale_weight": scale for layer, scale in load_plain(scales).items()}
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise UserError(f"{path} holds something else than named weights: wanted a checkpoint of mpgen or HunyuanVideo")
    return {
        name.removeprefix(prefix): Stored(tuple(tensor.shape), tensor.dtype, partial(_same, tensor))
        for name, tensor in content.items()
        if name.startswith(prefix)
    }


def _same(tensor: Tensor) -> Tensor:
    return tensor
