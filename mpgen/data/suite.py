"""A suite of videos to make and to score, as a CSV: one row a video.

Its columns: `name` (or `video`: a file's path in the folder of videos, its ending may be left out) and any of `prompt`,
`image` (the first frame; a relative path begins at the CSV's folder), `seconds` and `method`. Lines that begin with #
are comments. The paper's suite (§5.2) is 60 videos of 10 s, 60 of 30 s and 40 of 60 s:
`configs/evaluate/paper_suite.csv` has its rows, to be filled with images and prompts.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from mpgen.errors import UserError

_COLUMNS = ("prompt", "image", "seconds", "method")


@dataclass(frozen=True)
class SuiteRow:
    """One line; what it does not say is empty."""

    name: str
    prompt: str = ""
    image: str = ""
    seconds: float | None = None
    method: str = ""


def read_suite(path: Path, option: str) -> list[SuiteRow]:
    """
    Args:
        path: of the CSV.
        option: that named it, for messages.

    Raises:
        UserError: it cannot be read, has no names, names one twice, or a length is not a number.
    """
    if not path.is_file():
        raise UserError(f"{option} {path} does not exist")
    rows: dict[str, SuiteRow] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(line for line in file if not line.startswith("#"))
            key = next((name for name in ("name", "video") if name in (reader.fieldnames or ())), None)
            if key is None:
                raise UserError(f"{option} {path} has the columns {reader.fieldnames}: wanted `name` or `video`")
            for number, record in enumerate(reader, 1):
                name = (record[key] or "").strip()
                if not name or name in rows:
                    raise UserError(f"{path} row {number}: {name!r} is {'there twice' if name else 'no name'}")
                given = {column: (record.get(column) or "").strip() for column in _COLUMNS}
                seconds = _seconds(f"{path} row {number}", given["seconds"])
                rows[name] = SuiteRow(name, given["prompt"], given["image"], seconds, given["method"])
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{option} {path} cannot be read as CSV: {error}") from error
    return list(rows.values())


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
