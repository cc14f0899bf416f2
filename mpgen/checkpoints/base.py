"""Weights that a run's checkpoint names instead of holding: the frozen backbone, which lies where the run took it from.

The checkpoint says where that was and what was there, and nothing else is taken for it.
"""

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from mpgen.checkpoints.shards import is_sharded, open_shards
from mpgen.checkpoints.sources import FULL, PICKLED, PREFIX, Source, Stored, find_transformer, load_plain, open_source
from mpgen.errors import UserError


def describe_base(path: Path) -> dict[str, str]:
    """What a checkpoint says of the weights that it names."""
    return {"path": str(Path(path).absolute()), "sha256": fingerprint(path)}


def fingerprint(path: Path) -> str:
    """SHA-256 over all files of weights, in the order of their names; about a second for 1 to 2 GB."""
    place = _place(Path(path))
    files = (
        [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix in (".safetensors", *PICKLED))
    )
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()


def open_weights(path: Path) -> Source:
    """The weights at `path`, from any source; of a run's checkpoint with the backbone that it names.

    Raises:
        UserError: when the path does not exist or cannot be read, or the backbone is not what it was.
    """
    path = Path(path)
    if not is_sharded(path) and (path.suffix not in PICKLED or not path.is_file()):
        return open_source(_place(path))
    tree = open_shards(path) if is_sharded(path) else load_plain(path)
    if not (isinstance(tree, dict) and "state_dict" in tree):
        return open_source(path)
    return weights_of_run(path, tree)


def weights_of_run(path: Path, checkpoint: dict[str, Any]) -> Source:
    """The network's weights in a checkpoint that was read, and the backbone that it names."""
    return {**referenced(path, checkpoint.get("mpgen", {})), **own_weights(checkpoint)}


def own_weights(checkpoint: dict[str, Any]) -> Source:
    """The network's weights that a checkpoint holds itself."""
    return {
        name.removeprefix(PREFIX): as_stored(tensor)
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(PREFIX)
    }


def referenced(path: Path, card: dict[str, Any]) -> Source:
    """The frozen backbone that the checkpoint at `path` names, by its card; nothing if the checkpoint is whole."""
    return _open_base(path, card["base"]) if card.get("base") is not None else {}


def as_stored(tensor: Tensor | Stored) -> Stored:
    """A tensor as if it were on disk."""
    return tensor if isinstance(tensor, Stored) else Stored(tuple(tensor.shape), tensor.dtype, tensor.detach)


def check_base(path: Path, base: dict[str, str], found: dict[str, str]) -> None:
    """Raises UserError unless the weights that a run begins from are those that its checkpoint names."""
    if base["sha256"] != found["sha256"]:
        raise UserError(
            f"{path} names the weights that were at {base['path']}: {found['path']} holds others now; "
            "wanted the same files, or another run (--run)"
        )


def _open_base(path: Path, base: dict[str, str]) -> Source:
    place = Path(base["path"])
    if not place.exists():
        raise UserError(f"{path} holds no frozen weights: wanted them at {place}, where that run had them")
    check_base(path, base, describe_base(place))
    return open_weights(place)


def _place(path: Path) -> Path:
    return path if path.is_file() or (path / FULL).exists() or is_sharded(path) else find_transformer(path)
