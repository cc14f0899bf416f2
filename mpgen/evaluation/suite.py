"""Which videos there are, and of which method and length; a suite (`mpgen.data.suite`) may say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpgen.data.suite import SuiteRow
from mpgen.errors import UserError, printable
from mpgen.evaluation.sidecar import ALL_GENERATED, Generated, read_sidecar, sidecar_of

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
LENGTHS_SECONDS = (10, 30, 60)
_NEAR = 1.75  # a video this many times shorter or longer than each of them is a group of its own


@dataclass(frozen=True)
class Video:
    """A file to score.

    Args:
        path: of the file.
        name: its path in the folder, without the ending; what is no valid Unicode is written as escapes.
        method: what made it: the manifest's, else the sidecar's, else the sub-folder's name, else the folder's.
        prompt: its text, if known.
        generated: what in it was generated.
        promised_frames: how many it has when whole, as its JSON says; None if nothing says so.
        promised_seconds: how long it is when whole, as the manifest says; likewise.
    """

    path: Path
    name: str
    method: str = ""
    prompt: str = ""
    generated: Generated = ALL_GENERATED
    promised_frames: int | None = None
    promised_seconds: float | None = None


@dataclass(frozen=True)
class Skipped:
    """What could not be scored, and why."""

    video: str
    reason: str


def find_videos(
    folder: Path, output: Path, manifest: Sequence[SuiteRow] | None = None
) -> tuple[list[Video], list[Skipped]]:
    """The videos of a folder and its sub-folders by name, and every other file with the reason why it is none.

    The output folder may lie inside; hidden files and the JSON beside a video are not worth a word.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"--videos {folder}: no such folder")
    rows = None if manifest is None else {row.name: row for row in manifest}
    found, skipped, used = [], [], set()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sidecars = {sidecar_of(path) for path in paths if path.suffix.lower() in SUFFIXES}
    for path in paths:
        inside = path.relative_to(folder)
        if output.resolve() in path.resolve().parents or any(part.startswith(".") for part in inside.parts):
            continue
        if path.suffix.lower() not in SUFFIXES:
            if path not in sidecars:
                skipped.append(
                    Skipped(printable(inside.as_posix()), f"not a video: wanted one of {' '.join(SUFFIXES)}")
                )
            continue
        row = SuiteRow("") if rows is None else _row_of(inside, rows)
        if row is None:
            skipped.append(Skipped(printable(inside.as_posix()), "not in the manifest"))
            continue
        used.add(row.name)
        try:
            found.append(_describe(path, inside, folder, row))
        except UserError as error:
            skipped.append(Skipped(printable(inside.as_posix()), str(error)))
    skipped += [Skipped(name, "in the manifest, but there is no such video") for name in rows or () if name not in used]
    return found, skipped


def length_group(seconds: float | int) -> str:
    """ "10 s", "30 s" or "60 s", whichever is nearest as a ratio; a length far from all is a group of its own."""
    nearest = min(LENGTHS_SECONDS, key=lambda length: abs(math.log(max(seconds, 1e-3) / length)))
    near = 1 / _NEAR <= seconds / nearest <= _NEAR
    return f"{nearest if near else max(1, round(seconds))} s"


def _describe(path: Path, inside: Path, folder: Path, row: SuiteRow) -> Video:
    sidecar = read_sidecar(path)
    of_folder = inside.parts[0] if len(inside.parts) > 1 else folder.resolve().name
    return Video(
        path=path,
        name=printable(inside.with_suffix("").as_posix()),
        method=printable(row.method or sidecar.method or of_folder),
        prompt=printable(row.prompt or sidecar.prompt),
        generated=sidecar.generated,
        promised_frames=sidecar.promised_frames,
        promised_seconds=row.seconds,
    )


def _row_of(inside: Path, rows: dict[str, SuiteRow]) -> SuiteRow | None:
    names = (inside.as_posix(), inside.with_suffix("").as_posix(), inside.name, inside.stem)
    return next((rows[name] for name in names if name in rows), None)
