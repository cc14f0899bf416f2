"""Which videos there are, of which method and length, and the manifest that a suite such as the paper's is written in.

A manifest is a CSV with a column `name` (or `video`: a file's path in the folder, its ending may be left out) and any
of `prompt`, `image`, `seconds` and `method`. The paper's suite (§5.2) is 60 videos of 10 s, 60 of 30 s and 40 of 60 s:
`configs/evaluate/paper_suite.csv` has its rows, to be filled with images and prompts.
"""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpgen.errors import UserError
from mpgen.evaluation.drift import Generated, read_generated

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
LENGTHS_SECONDS = (10, 30, 60)
_NEAR = 1.75  # a video this many times shorter or longer than each of them is a group of its own
_COLUMNS = ("prompt", "image", "seconds", "method")


@dataclass(frozen=True)
class Row:
    """One line of a manifest; what it does not say is empty."""

    name: str
    prompt: str = ""
    image: str = ""
    seconds: float | None = None
    method: str = ""


@dataclass(frozen=True)
class Video:
    """A file to score.

    Args:
        path: of the file.
        name: its path in the folder, without the ending.
        method: what made it: the manifest's, else the sidecar's, else the sub-folder's name, else the folder's.
        prompt: its text, if known.
        generated: what in it was generated.
    """

    path: Path
    name: str
    method: str
    prompt: str
    generated: Generated


@dataclass(frozen=True)
class Skipped:
    """What could not be scored, and why."""

    video: str
    reason: str


def read_suite(path: Path) -> list[Row]:
    """
    Raises:
        UserError: it cannot be read, has no names, names one twice, or a length is not a number.
    """
    if not path.is_file():
        raise UserError(f"--manifest {path} does not exist")
    rows: dict[str, Row] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(line for line in file if not line.startswith("#"))
            key = next((name for name in ("name", "video") if name in (reader.fieldnames or ())), None)
            if key is None:
                raise UserError(f"--manifest {path} has the columns {reader.fieldnames}: wanted `name` or `video`")
            for number, record in enumerate(reader, 1):
                name = (record[key] or "").strip()
                if not name or name in rows:
                    raise UserError(f"{path} row {number}: {name!r} is {'there twice' if name else 'no name'}")
                given = {column: (record.get(column) or "").strip() for column in _COLUMNS}
                seconds = _seconds(f"{path} row {number}", given["seconds"])
                rows[name] = Row(name, given["prompt"], given["image"], seconds, given["method"])
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"--manifest {path} cannot be read as CSV: {error}") from error
    return list(rows.values())


def find_videos(folder: Path, output: Path, manifest: Sequence[Row] | None = None) -> tuple[list[Video], list[Skipped]]:
    """The videos of a folder and its sub-folders by name, and every other file with the reason why it is none.

    The output folder may lie inside; hidden files and the JSON beside a video are not worth a word.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"--videos {folder}: no such folder")
    rows = None if manifest is None else {row.name: row for row in manifest}
    found, skipped, used = [], [], set()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inside = path.relative_to(folder)
        if output.resolve() in path.resolve().parents or any(part.startswith(".") for part in inside.parts):
            continue
        if path.suffix.lower() not in SUFFIXES:
            if not (path.suffix == ".json" and any(path.with_suffix(suffix).exists() for suffix in SUFFIXES)):
                skipped.append(Skipped(inside.as_posix(), f"not a video: wanted one of {' '.join(SUFFIXES)}"))
            continue
        row = Row("") if rows is None else _row_of(inside, rows)
        if row is None:
            skipped.append(Skipped(inside.as_posix(), "not in the manifest"))
            continue
        used.add(row.name)
        try:
            found.append(_describe(path, inside, folder, row))
        except UserError as error:
            skipped.append(Skipped(inside.as_posix(), str(error)))
    skipped += [Skipped(name, "in the manifest, but there is no such video") for name in rows or () if name not in used]
    return found, skipped


def length_group(seconds: float | int) -> str:
    """ "10 s", "30 s" or "60 s", whichever is nearest as a ratio; a length far from all is a group of its own."""
    nearest = min(LENGTHS_SECONDS, key=lambda length: abs(math.log(max(seconds, 1e-3) / length)))
    near = 1 / _NEAR <= seconds / nearest <= _NEAR
    return f"{nearest if near else max(1, round(seconds))} s"


def _describe(path: Path, inside: Path, folder: Path, row: Row) -> Video:
    sidecar = path.with_suffix(".json")
    generated = read_generated(sidecar)
    card = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.is_file() else {}
    of_folder = inside.parts[0] if len(inside.parts) > 1 else folder.resolve().name
    method = row.method or str(card.get("method") or of_folder)
    prompt = row.prompt or str(card.get("prompt") or "")
    return Video(path, inside.with_suffix("").as_posix(), method, prompt, generated)


def _row_of(inside: Path, rows: dict[str, Row]) -> Row | None:
    names = (inside.as_posix(), inside.with_suffix("").as_posix(), inside.name, inside.stem)
    return next((rows[name] for name in names if name in rows), None)


def _seconds(place: str, text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        raise UserError(f"{place}: seconds {text!r} is not a number") from None
    if not 0 < seconds < math.inf:
        raise UserError(f"{place}: seconds {text}: wanted more than 0")
    return seconds
