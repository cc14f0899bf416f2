"""A checkpoint as a folder that every rank writes its part of: rows in safetensors files, everything else in one tree.

FOLDER/tree.pt                               plain values and small tensors; a mark stands for each sharded tensor
FOLDER/rank-00000-of-00008.safetensors       the rows that rank 0 held, in the order of ranks

Not torch's distributed checkpoints: their index is a pickle that runs code when it is read, and theirs cannot be read
one tensor at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from mpgen.atomic import permit
from mpgen.checkpoints.plain import one_line
from mpgen.checkpoints.sources import Stored, load_plain
from mpgen.errors import UserError

TREE = "tree.pt"
MARK = "sharded tensor"


@dataclass(frozen=True)
class Rows:
    """The first dimension's part of a tensor that lies in one file."""

    file: Path
    first: int
    end: int


def is_sharded(path: Path) -> bool:
    """Whether a path is such a folder."""
    return (path / TREE).is_file()


def map_leaves(change: Callable[[tuple[str, ...], Any], Any], tree: Any, place: tuple[str, ...] = ()) -> Any:
    """A nested dict or list with every leaf replaced by `change(place, leaf)`."""
    if isinstance(tree, dict) and MARK not in tree:
        return {key: map_leaves(change, value, (*place, str(key))) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_leaves(change, value, (*place, str(i))) for i, value in enumerate(tree))
    return change(place, tree)


def write_shard(tree: dict[str, Any], folder: Path, rank: int, world_size: int) -> None:
    """This rank's part of a checkpoint whose large tensors are `DTensor`s with their rows spread over all ranks."""
    rows: dict[str, Tensor] = {}

    def marked(place: tuple[str, ...], leaf: Any) -> Any:
        if not isinstance(leaf, DTensor):
            return leaf
        assert [p.is_shard(0) for p in leaf.placements] == [True], "rows are spread over one dimension of ranks"
        key = "/".join(place)
        rows[key] = leaf.to_local().detach().cpu().contiguous()
        return {MARK: key, "shape": list(leaf.shape), "dtype": str(leaf.dtype).removeprefix("torch.")}

    plain = map_leaves(marked, tree)
    part = folder / f"rank-{rank:05d}-of-{world_size:05d}.safetensors"
    save_file(rows, part)
    permit(part)
    if rank == 0:
        torch.save(plain | {"shards": world_size}, folder / TREE)


def open_shards(folder: Path) -> dict[str, Any]:
    """The checkpoint with a `Stored` for every sharded tensor, read when it is asked for.

    Raises:
        UserError: when a part is missing or damaged.
    """
    tree = load_plain(folder / TREE)
    if not isinstance(tree, dict) or "shards" not in tree:
        raise UserError(f"{folder / TREE} is damaged or not a checkpoint: it does not say of how many parts")
    count = tree.pop("shards")
    rows: dict[str, list[Rows]] = {}
    for rank in range(count):
        file = folder / f"rank-{rank:05d}-of-{count:05d}.safetensors"
        try:
            with safe_open(file, framework="pt") as opened:
                for key in opened.keys():  # noqa: SIM118 - not a dict
                    parts = rows.setdefault(key, [])
                    first = parts[-1].end if parts else 0
                    parts.append(Rows(file, first, first + opened.get_slice(key).get_shape()[0]))
        except Exception as error:  # a library in Rust has exceptions of its own
            raise UserError(f"{file} is missing or damaged: {one_line(error)}") from error

    def stored(place: tuple[str, ...], leaf: Any) -> Any:
        if not (isinstance(leaf, dict) and MARK in leaf):
            return leaf
        parts, shape = rows.get(leaf[MARK], []), tuple(leaf["shape"])
        if not parts or parts[-1].end != shape[0]:
            raise UserError(f"{folder} lacks rows of {leaf[MARK]}: wanted all that {TREE} names")
        return Stored(shape, getattr(torch, leaf["dtype"]), partial(_join, leaf[MARK], parts))

    return map_leaves(stored, tree)


def _join(key: str, parts: list[Rows]) -> Tensor:
    found = []
    for rows in parts:
        with safe_open(rows.file, framework="pt") as opened:
            found.append(opened.get_tensor(key))
    return torch.cat(found)
