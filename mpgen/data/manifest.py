"""Reads a manifest: a CSV with one video a row, from any spreadsheet.

Columns: `video` (relative to the CSV, or absolute) is required; `caption`, `split` (default "train"), `start_seconds`
    and `end_seconds`
are optional; others are ignored. A bad row costs that row, never the run; a CSV that cannot be read as a table is one
clear error.
"""

import csv
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

from mpgen.data.records import Reject, VideoRecord, video_uid
from mpgen.errors import UserError

KNOWN_COLUMNS = ("video", "caption", "split", "start_seconds", "end_seconds")


@dataclass(frozen=True)
class Manifest:
    """The usable rows, in their order, and the others."""

    records: list[VideoRecord]
    rejects: list[Reject]


class _BadRow(Exception):
    """Why a row cannot be used: `reason` and `detail` of its `Reject`."""


def read_manifest(csv_path: Path, split: str | None = None) -> Manifest:
    """The videos of a manifest, or of one split of it; bad rows of every split are among the rejects.

    Raises:
        UserError: no such file, no column `video`, a column twice, or no row at all.
    """
    rows = _read_rows(csv_path)
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
            record = _to_record(csv_path, number, cells, len(header), columns)
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


def _read_rows(csv_path: Path) -> list[list[str]]:
    if not csv_path.is_file():
        raise UserError(f"{csv_path}: no such manifest, wanted a CSV file with a column `video`")
    data = csv_path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")  # what Excel writes in the west
    csv.field_size_limit(2**31 - 1)  # captions may be long
    try:
        return list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{csv_path}: cannot be read as CSV: {error}") from error


def _to_record(csv_path: Path, number: int, cells: list[str], num_columns: int, columns: dict[str, int]) -> VideoRecord:
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
    path = csv_path.parent / values["video"]
    if not os.path.isfile(path):  # unlike Path.is_file, false for a name that is too long
        raise _BadRow("missing", f"no such file: {path}")
    source = csv_path.resolve().parent.name
    return VideoRecord(
        uid=video_uid(source, Path(values["video"]).as_posix(), start, end_seconds),
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
