"""Reads a manifest: a CSV with one video a row, from any spreadsheet.

Columns: `video` (relative to the CSV, or absolute) is required; `caption`, `split` (default "train"), `start_seconds`,
`end_seconds`, `source` and `clip_id` are optional; others are ignored. With a `clip_id` a video keeps its name, and so
its place in the cache, wherever its file lies. A bad row costs that row, never the run; a CSV that cannot be read as a
table is one clear error.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from mpgen.data.records import Reject, VideoRecord, video_uid
from mpgen.data.table import read_cells
from mpgen.errors import UserError

KNOWN_COLUMNS = ("video", "caption", "split", "start_seconds", "end_seconds", "source", "clip_id")


@dataclass(frozen=True)
class Manifest:
    """The usable rows, in their order, and the others."""

    records: list[VideoRecord]
    rejects: list[Reject]


class _BadRow(Exception):
    """Why a row cannot be used: `reason` and `detail` of its `Reject`."""


def read_manifest(
    csv_path: Path, split: str | None = None, folder: Path | None = None, must_exist: bool = True
) -> Manifest:
    """The videos of a manifest, or of one split of it; bad rows of every split are among the rejects.

    Args:
        csv_path: the manifest.
        split: only this one.
        folder: what the videos' paths are relative to; by default the folder of the manifest.
        must_exist: reject rows whose file is not there; a cache may hold them all the same.

    Raises:
        UserError: no such file, no column `video`, a column twice, or no row at all.
    """
    rows = _read_rows(csv_path)
    folder = csv_path.parent if folder is None else folder
    header = [name.strip() for name in rows[0]] if rows else []
    columns = {name: header.index(name) for name in KNOWN_COLUMNS if name in header}
    if "video" not in columns:
        raise UserError(
            f"{csv_path}: has the columns {header}, wanted `video` (and perhaps {', '.join(KNOWN_COLUMNS[1:])})"
        )
    if twice := [name for name in columns if header.count(name) > 1]:
        raise UserError(f"{csv_path}: has the column `{twice[0]}` more than once")

    records: list[VideoRecord] = []
    rejects: list[Reject] = []
    first_row_of: dict[str, int] = {}
    for number, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        video = cells[columns["video"]].strip() if columns["video"] < len(cells) else ""
        try:
            record = _to_record(folder, number, cells, len(header), columns, must_exist)
            if record.uid in first_row_of:
                raise _BadRow("duplicate", f"the same video and span as row {first_row_of[record.uid]}")
        except _BadRow as error:
            rejects.append(Reject(number, video, *error.args))
            continue
        first_row_of[record.uid] = number
        records.append(record)
    if not records and not rejects:
        raise UserError(f"{csv_path}: has no rows below its header, wanted one for each video")
    return Manifest([record for record in records if split is None or record.split == split], rejects)


def training_records(manifest: Manifest, csv_path: Path) -> list[VideoRecord]:
    """The rows of the splits that a run reads: `train` and `val`.

    Raises:
        UserError: there are rows, all of other splits.
    """
    records = [record for record in manifest.records if record.split in ("train", "val")]
    if manifest.records and not records:
        splits = sorted({record.split for record in manifest.records})
        raise UserError(f"{csv_path}: has the splits {splits}, wanted `train` and perhaps `val`")
    return records


def _read_rows(csv_path: Path) -> list[list[str]]:
    if not csv_path.is_file():
        raise UserError(f"{csv_path}: no such manifest, wanted a CSV file with a column `video`")
    return list(read_cells(csv_path))


def read_training_records(csv_path: Path) -> tuple[list[VideoRecord], list[Reject]]:
    """What a run reads of a manifest, whether the files are there or only in a cache; and the rows that are wrong.

    Raises:
        UserError: likewise, or there are rows, all of splits that no run reads.
    """
    manifest = read_manifest(csv_path, must_exist=False)
    return training_records(manifest, csv_path), manifest.rejects


def _to_record(
    folder: Path, number: int, cells: list[str], num_columns: int, columns: dict[str, int], must_exist: bool
) -> VideoRecord:
    if len(cells) < num_columns or any(cell.strip() for cell in cells[num_columns:]):
        raise _BadRow(
            "wrong_columns", f"has {len(cells)} columns, the header has {num_columns}; a comma needs quotes around it"
        )
    values = {name: cells[index].strip() for name, index in columns.items()}
    if not values["video"]:
        raise _BadRow("no_video", "column `video` is empty")
    start = _seconds(values, "start_seconds", 0.0)
    end = _seconds(values, "end_seconds", math.inf)
    if end <= start:
        raise _BadRow("bad_span", f"end {end} s is not after start {start} s")
    end_seconds = None if end == math.inf else end
    path = folder / values["video"]
    if must_exist and not os.path.isfile(path):  # unlike Path.is_file, false for a name that is too long
        raise _BadRow("missing", f"no such file: {path}")
    source = values.get("source", "")  # not the folder's name: a folder may be renamed, moved or copied
    name = values.get("clip_id", "") or Path(values["video"]).as_posix()
    return VideoRecord(
        uid=video_uid(source, name, start, end_seconds),
        path=path,
        caption=values.get("caption", ""),
        split=values.get("split", "") or "train",
        source=source,
        start_seconds=start,
        end_seconds=end_seconds,
        row=number,
    )


def _seconds(values: dict[str, str], column: str, default: float) -> float:
    given = values.get(column, "")
    if not given:
        return default
    try:
        seconds = float(given)
    except ValueError:
        raise _BadRow("bad_number", f"{column} is {given!r}, wanted seconds such as 2.5") from None
    if not 0 <= seconds < math.inf:
        raise _BadRow("bad_number", f"{column} is {given!r}, wanted a number of seconds from 0")
    return seconds
