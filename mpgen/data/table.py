"""Tables as people's programs write them: any size, UTF-8 or UTF-16, else what Excel writes in the west.

Read as a stream, so that a table of gigabytes needs no memory; only the standard library, because pandas would make
numbers of ids.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mpgen.data.encodings import find_encoding
from mpgen.errors import UserError


@dataclass(frozen=True)
class Row:
    """A row that is not blank.

    Args:
        number: as a spreadsheet counts it, the header is row 1.
        cells: by the column's name, without blanks around them; "" where the row is too short.
        problem: what is wrong with the number of cells, in words; empty if nothing.
    """

    number: int
    cells: dict[str, str]
    problem: str


def read_rows(path: Path, required: Sequence[str], progress: bool = False) -> Iterator[Row]:
    """The rows below the header; blank rows and columns without a name are passed over. The header is read at once.

    Raises:
        UserError: it cannot be read as a table, lacks a required column, or has a column twice.
    """
    table = read_cells(path, progress)
    header = [name.strip() for name in next(table, [])]
    columns = {name: place for place, name in enumerate(header) if name}
    if absent := [name for name in required if name not in columns]:
        raise UserError(f"{path}: has no column {', '.join(absent)}; its columns are {', '.join(columns) or 'none'}")
    if twice := [name for name in columns if header.count(name) > 1]:
        raise UserError(f"{path}: has the column {twice[0]!r} more than once")
    return _rows(table, columns)


def _rows(table: Iterable[list[str]], columns: dict[str, int]) -> Iterator[Row]:
    width = 1 + max(columns.values())
    for number, cells in enumerate(table, start=2):
        stripped = [cell.strip() for cell in cells]
        if not any(stripped):
            continue
        fits = len(stripped) >= width and not any(stripped[width:])
        problem = f"has {len(cells)} cells, wanted {width}; a comma needs quotes around it" if not fits else ""
        stripped += [""] * (width - len(stripped))
        yield Row(number, {name: stripped[place] for name, place in columns.items()}, problem)


def read_cells(path: Path, progress: bool = False) -> Iterator[list[str]]:
    """The lines of a CSV as lists of cells, the header first.

    Args:
        path: the file.
        progress: show a bar of bytes, on a terminal.

    Raises:
        UserError: it cannot be read as a table.
    """
    csv.field_size_limit(2**31 - 1)  # captions may be long
    size = path.stat().st_size
    bar = tqdm(desc=path.name, total=size, unit="B", unit_scale=True, disable=None if progress else True)
    encoding = find_encoding(path)
    if encoding is None:
        raise UserError(f"{path}: is in an unknown encoding; save it as UTF-8 (iconv -f GBK -t UTF-8, for example)")
    with path.open(encoding=encoding, errors="replace", newline="") as file, closing(bar):
        try:
            yield from csv.reader(_counted(file, bar))
        except csv.Error as error:
            raise UserError(f"{path}: cannot be read as CSV: {error}") from error


def _counted(lines: Iterable[str], bar: tqdm) -> Iterator[str]:
    for line in lines:
        bar.update(len(line))
        yield line
