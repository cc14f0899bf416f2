"""`mpgen data index`: list the clips of a collection whose files are there, and say why the others are not used."""

import csv as csv_module
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from mpgen.data.curate.captions import CaptionChoice
from mpgen.data.curate.sources import SOURCES, SourceName
from mpgen.data.curate.sources.base import FoundClip
from mpgen.data.curate.sources.clip import SourceClip, read_clips, write_clips
from mpgen.data.encodings import find_encoding
from mpgen.data.records import Reject, count_reasons, write_table
from mpgen.errors import UserError

INDEX, REJECTS = "index.jsonl", "index_rejects.csv"
_HEADER = ["source", *(field.name for field in fields(Reject))]


@dataclass(frozen=True)
class Indexed:
    """What a table came to: clips to use, and rows that are not."""

    clips: tuple[SourceClip, ...]
    rejects: tuple[Reject, ...]
    seconds: float
    unknown_length: int

    @property
    def rows(self) -> int:
        return len(self.clips) + len(self.rejects)


def index(
    source: SourceName,
    output: Path,
    csv: Path | None = None,
    root: Path | None = None,
    name: str | None = None,
    min_seconds: float = 1.6,
    max_missing: float = 0.5,
) -> None:
    """List the clips of a collection whose files are there; nothing is decoded.

    Several collections may share one folder; the same one again replaces its lines.

    Example:
      mpgen data index --source mira_v0 --csv miradata_v0.csv --root miradata --output data/mira_sekai

    Args:
        source: what published it: MiraData's tables (v0 has `index`, v1 `clip_id`), Sekai's, a folder of videos, a
            manifest (folder with --csv), or the folder that `mpgen world` made.
        output: the folder DATA that all verbs of `mpgen data` share; made if missing.
        csv: the published table.
        root: the folder with the videos, however deep; cut clips or whole videos.
        name: what to call the collection, where one DATA has several of a kind, such as sekai_game.
        min_seconds: shorter clips are not used; a section of nine latent frames and its start image last 1.54 s.
        max_missing: largest part of the rows whose video may be missing; more is taken for a wrong --root.
    """
    name = source if name is None else name
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"--name: {name!r} does not fit, wanted letters, digits and _ . -")
    if not 0 <= max_missing <= 1:
        raise UserError(f"--max_missing: {max_missing:g} does not fit, wanted a part from 0 to 1")
    table = SOURCES[source].table(csv, root)
    if table is not None and table.resolve() == (output / "manifest.csv").resolve():
        raise UserError(f"{table}: `mpgen data filter` would write over it; choose another folder (--output)")
    index_file = output / INDEX
    others = [clip for clip in read_clips(index_file) if clip.source != name] if index_file.exists() else []
    found = _collect(SOURCES[source].read(name, table, root), output, others, min_seconds)
    _refuse_missing(found, max_missing, table, root)

    sources = {clip.source for clip in others} | {name}
    write_clips(index_file, sorted([*others, *found.clips], key=lambda clip: (clip.source, clip.row)))
    _write_rejects(output / REJECTS, name, found.rejects)
    print(_summary(name, found, table))
    print(f"{index_file}: {_of(len(others) + len(found.clips), 'clip')} of {_of(len(sources), 'source')}")
    if found.rejects:
        print(f"{output / REJECTS}: the other rows, each with its reason")
    print(f"next:\n  mpgen data score {output}")


def _collect(
    rows: Iterable[FoundClip | Reject], output: Path, others: Iterable[SourceClip], min_seconds: float
) -> Indexed:
    """Clips by their files: the same span of a file again, also of another collection, is a duplicate."""
    inside = os.path.abspath(output) + os.sep
    owner = {(clip.path, clip.start_seconds, clip.end_seconds): clip for clip in others}
    clips, rejects, seconds, unknown = [], [], 0.0, 0
    for row in rows:
        if isinstance(row, Reject):
            rejects.append(row)
            continue
        clip = _placed(row.clip, inside)
        first = owner.setdefault((clip.path, clip.start_seconds, clip.end_seconds), clip)
        if first is not clip:
            detail = f"the same part of {clip.path} as row {first.row} of {first.source}"
            rejects.append(Reject(clip.row, clip.clip_id, "duplicate", detail))
        elif row.seconds is not None and row.seconds < min_seconds:
            detail = f"lasts {row.seconds:.2f} s, wanted {min_seconds:g} s"
            rejects.append(Reject(clip.row, clip.clip_id, "too_short", detail))
        else:
            clips.append(clip)
            seconds += row.seconds or 0.0
            unknown += row.seconds is None
    return Indexed(tuple(clips), tuple(sorted(rejects)), seconds, unknown)


def _placed(clip: SourceClip, inside: str) -> SourceClip:
    """The clip with paths relative to the folder where they lie in it."""
    if not clip.path.startswith(inside):
        return clip
    camera = None if clip.camera is None else clip.camera.removeprefix(inside)
    return replace(clip, path=clip.path.removeprefix(inside), camera=camera)


def _refuse_missing(found: Indexed, max_missing: float, table: Path | None, root: Path | None) -> None:
    given = root if table is None else table
    if not found.rows:
        raise UserError(f"{given}: has no rows, wanted one for each clip")
    missing = [reject for reject in found.rejects if reject.reason == "missing"]
    distinct = found.rows - sum(reject.reason == "duplicate" for reject in found.rejects)
    if len(missing) > max_missing * distinct:
        raise UserError(
            f"{given}: the videos of {len(missing)} of {distinct} rows are not below {root} (--root); row "
            f"{missing[0].row}: {missing[0].detail}\nto go on with the others: --max_missing 1"
        )
    if not found.clips:
        raise UserError(f"{given}: none of {found.rows} rows can be used ({count_reasons(found.rejects)})")


def _summary(name: str, found: Indexed, table: Path | None) -> str:
    counts = Counter(reject.reason for reject in found.rejects)
    reasons = ["missing", "duplicate", "too_short"]
    reasons += sorted(set(counts).difference(reasons))
    choice = CaptionChoice()
    some_known = found.unknown_length < len(found.clips)
    notes = {
        "of unknown length": found.unknown_length,
        "hours of the others" if found.unknown_length else "hours": some_known and f"{found.seconds / 3600:.2f}",
        "part of a whole video": sum(clip.start_seconds > 0 or clip.end_seconds is not None for clip in found.clips),
        "without a caption": sum(not choice.choose(clip.captions) for clip in found.clips),
        "with unreadable letters": sum("\ufffd" in "".join(clip.captions.values()) for clip in found.clips),
        "with a camera path": sum(clip.camera is not None for clip in found.clips),
    }
    lines = [f"{name}: {_of(found.rows, 'row')}", f"  {'found':<26} {len(found.clips):>9}"]
    lines += [f"    {what:<24} {count:>9}" for what, count in notes.items() if count]
    lines += [f"  {reason.replace('_', ' '):<26} {counts[reason]:>9}" for reason in reasons]
    if table is not None and find_encoding(table) == "cp1252":
        lines.append(f"  {table} is not UTF-8; it was read as cp1252")
    return "\n".join(lines)


def _of(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _write_rejects(path: Path, name: str, rejects: Iterable[Reject]) -> None:
    """Replaces this collection's lines; the same rejects give the same bytes."""
    lines: list[tuple[str, ...]] = []
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            lines = [tuple(cells) for cells in csv_module.reader(file)][1:]
    kept = [line for line in lines if line[0] != name]
    new = [(name, *map(str, astuple(reject))) for reject in rejects]
    write_table(path, _HEADER, sorted([*kept, *new], key=lambda line: (line[0], int(line[1]), *line[2:])))
