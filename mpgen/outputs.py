"""Where a command writes: what cannot be written is one line before anything is computed."""

import os
from pathlib import Path

from mpgen.errors import UserError

MAX_NAME = 240  # bytes; file systems take 255, and what is half written has a longer name


def check_file(path: Path, option: str, suffix: str, overwrite: bool) -> None:
    """Raises UserError unless a file of this name can be made.

    Args:
        path: the file.
        option: names it in errors.
        suffix: that it must have.
        overwrite: one that is there is replaced.
    """
    if path.suffix != suffix:
        raise UserError(f"{option} {path}: wanted a name that ends in {suffix}")
    check_folder(path.parent, option)
    _check_name(path, option)
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder: wanted the name of a file")
    if path.exists() and not overwrite:
        raise UserError(f"{option} {path} exists: wanted a new name, or --overwrite")


def check_folder(path: Path, option: str) -> None:
    """Raises UserError unless files can be made in this folder, which need not be there yet."""
    for part in (path, *path.parents):
        _check_name(part, option)
    there = next(part for part in (path, *path.parents) if part.exists())
    if not there.is_dir():
        raise UserError(f"{option} {path}: {there} is a file: wanted a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path}: {there} cannot be written to: wanted a folder of yours")


def _check_name(path: Path, option: str) -> None:
    length = len(os.fsencode(path.name))
    if length > MAX_NAME:
        raise UserError(f"{option}: a name of {length} bytes ({path.name[:30]}...): wanted at most {MAX_NAME}")
    if "\0" in path.name:
        raise UserError(f"{option} {path.name!r}: wanted a name without a zero byte")
