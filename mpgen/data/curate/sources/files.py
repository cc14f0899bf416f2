"""Where the files are: one walk over a folder, then a look-up by the end of a path, whatever lies above it.

Users' disks differ from the published layouts (another root, another container, flat folders), but the names that the
tables give are unique, so a file is known by as much of its path as the table determines, without the suffix.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from mpgen.errors import UserError

# In order of preference where several have one name. Raw streams (.hevc) have no time stamps, so they are left out.
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".ts", ".flv", ".mpg", ".mpeg")
CAMERA_SUFFIXES = (".npz",)


def walk(root: Path) -> list[str]:
    """The absolute paths, with `/`, of all files below `root`, in order; links are followed, hidden names are not.

    Raises:
        UserError: `root` is no folder, or a folder in it cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder, wanted the one with the videos (--root)")
    found: list[str] = []
    with tqdm(desc=f"files of {root}", unit="file", disable=None) as bar:
        for folder, names in _folders(os.path.abspath(root)):
            found += [f"{folder}/{name}" for name in names]
            bar.update(len(names))
    return sorted(found)


def _folders(root: str) -> Iterator[tuple[str, list[str]]]:
    """Every folder once, although links may lead in circles, with the names of its files."""
    seen: set[tuple[int, int]] = set()
    for folder, below, names in os.walk(root, followlinks=True, onerror=_refuse):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen:
            below.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        # such as the `._clip.mp4` that macOS puts beside every clip.mp4, and `lost+found`, which only root may read
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "lost+found")
        yield folder.replace(os.sep, "/").rstrip("/"), [name for name in names if not name.startswith(".")]


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: the folder cannot be read: {error.strerror}") from error


class Files:
    """Files of some kinds, to be found by the end of their path.

    Args:
        paths: absolute, with `/`.
        suffixes: the kinds, in order of preference where several have one name.
    """

    def __init__(self, paths: Iterable[str], suffixes: tuple[str, ...]) -> None:
        self._paths: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._rank = {suffix: rank for rank, suffix in enumerate(suffixes)}
        for path in paths:
            stem, suffix = os.path.splitext(path)
            if suffix.lower() in self._rank:
                self._paths[stem.rpartition("/")[2]].append((stem, suffix))

    def find(self, *ends: str) -> str | None:
        """The file whose path without its suffix ends with the first of `ends` that any does.

        Where several do: the one in the fewest folders, then of the preferred kind, then the first by name.
        """
        for end in ends:
            last = end.rpartition("/")[2]
            fitting = self._paths.get(last, []) if last else []
            if last != end:
                fitting = [(stem, suffix) for stem, suffix in fitting if stem.endswith(f"/{end}")]
            if fitting:
                return "".join(min(fitting, key=self._order))
        return None

    def _order(self, path: tuple[str, str]) -> tuple[int, int, str]:
        stem, suffix = path
        return stem.count("/"), self._rank[suffix.lower()], stem + suffix


def without_suffix(name: str) -> str:
    """A path as a table gives it, ready for `Files.find`: relative, with `/`, without a video's or camera's suffix."""
    path = name.strip().replace("\\", "/")
    stem, suffix = os.path.splitext(path)
    parts = (stem if suffix.lower() in VIDEO_SUFFIXES + CAMERA_SUFFIXES else path).split("/")
    return "/".join(part for part in parts if part not in ("", "."))
