"""How a run's checkpoints get to the disk and back: whole or not at all, and the one before is kept.

`last.ckpt` becomes `previous.ckpt` only when the new one lies complete beside it, so a kill at any moment leaves one
that can be read.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from mpgen.checkpoints import read_checkpoint
from mpgen.checkpoints.plain import one_line
from mpgen.checkpoints.shards import map_leaves
from mpgen.checkpoints.sources import Stored
from mpgen.errors import UserError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class RunCheckpoints(TorchCheckpointIO):
    """Lightning's door to the disk, for checkpoints of one file; those of many ranks only pass through to be read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        assert storage_options is None, "files are local"
        path = Path(path)
        with_reason(path, lambda: _write(checkpoint, path))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        tree = read_checkpoint(Path(path))
        return map_leaves(lambda _, leaf: leaf.read() if isinstance(leaf, Stored) else leaf, tree)

    def remove_checkpoint(self, path: str | Path) -> None:
        remove(Path(path))


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from.

    Args:
        path: where it is.
        content: its tree; tensors stay on the disk until they are used.
        damaged: what was wrong with later ones.
    """

    path: Path
    content: dict[str, Any]
    damaged: tuple[str, ...] = ()


def kept(folder: Path) -> list[Path]:
    """The checkpoints of a run, the latest first."""
    named = [folder / LAST, folder / PREVIOUS]
    rest = sorted(set(folder.glob("*.ckpt")) - set(named), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path for path in named if path.exists()] + rest


def latest_whole(folder: Path) -> Found | None:
    """The latest checkpoint of a run that can be read; None if there is none at all.

    Raises:
        UserError: when all are damaged.
    """
    damaged: list[UserError] = []
    for path in kept(folder):
        try:
            return Found(path, read_whole(path), tuple(str(error).splitlines()[0] for error in damaged))
        except UserError as error:
            damaged.append(error)
    if damaged:
        raise damaged[0]
    return None


def read_whole(path: Path) -> dict[str, Any]:
    """A checkpoint to go on from, of which every byte was looked at.

    Raises:
        UserError: when it is damaged, or something else.
    """
    try:
        checkpoint = read_checkpoint(path)
    except UserError as error:
        raise _damaged(path) from error
    if not {"state_dict", "optimizer_states", "loops", "mpgen"} <= checkpoint.keys():
        raise _damaged(path)
    return checkpoint


def half_written(path: Path) -> Path:
    """Where a checkpoint is written until it is whole; a killed run may leave it, and the next one writes over it."""
    return path.with_name(f".{path.name}.tmp")


def take_its_place(path: Path) -> None:
    """What was written beside `path` becomes `path`; a `last.ckpt` that was there is kept as the previous one."""
    if path.name == LAST and path.exists():
        previous = path.with_name(PREVIOUS)
        remove(previous)
        os.replace(path, previous)
    elif path.is_dir():
        remove(path)
    os.replace(half_written(path), path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_files(folder: Path) -> None:
    """Returns when a folder's files are on the disk, not only on their way."""
    for file in folder.iterdir():
        _sync(file)


def with_reason(path: Path, write: Callable[[], None]) -> None:
    """Runs `write`.

    Raises:
        UserError: when it fails, saying what is left; the half-written file is removed.
    """
    try:
        write()
    # torch says "unexpected pos" where the disk is full, as a RuntimeError
    except (OSError, RuntimeError) as error:
        remove(half_written(path))
        reason = error if isinstance(error, OSError) else error.__context__ or error
        kept = f"{path} is still the one before" if path.exists() else "there is none before it"
        raise UserError(
            f"checkpoint {path} could not be written: {one_line(reason)}; {kept}; make room, then run the same "
            "command again"
        ) from error


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{path} is damaged or not a checkpoint of mpgen fit\n"
        f"remove it to start anew, or give another one (--ckpt_path), perhaps from {path.parent}"
    )


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with half_written(path).open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    take_its_place(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
