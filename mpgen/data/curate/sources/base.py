"""From a table and a folder to clips: the steps that all sources share, so that each only says what its rows mean."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mpgen.data.curate.sources.clip import SourceClip
from mpgen.data.curate.sources.files import CAMERA_SUFFIXES, VIDEO_SUFFIXES, Files, walk
from mpgen.data.records import Reject, video_uid
from mpgen.data.table import read_rows
from mpgen.errors import UserError, printable


@dataclass(frozen=True)
class FoundClip:
    """A clip whose file is there; `seconds` is its length by the table, None where the table does not say."""

    clip: SourceClip
    seconds: float | None


@dataclass(frozen=True)
class Listing:
    """What one row of a table says, before any file is looked for.

    Args:
        clip_id: the source's name for the clip.
        video_id: what it was cut from.
        cut: ends of the path of a file that holds the clip alone, see `Files.find`.
        raw: likewise of the whole video.
        start_seconds: of the clip in the whole video.
        end_seconds: likewise, exclusive.
        captions: by field.
        camera: end of the path of its camera file; empty if there is none.
    """

    clip_id: str
    video_id: str
    cut: tuple[str, ...]
    raw: tuple[str, ...]
    start_seconds: float
    end_seconds: float
    captions: dict[str, str]
    camera: str = ""

    def __post_init__(self) -> None:
        if self.end_seconds <= self.start_seconds:
            raise BadRow("bad_span", f"end {self.end_seconds:g} s is not after start {self.start_seconds:g} s")


class BadRow(Exception):
    """Why a row cannot be used: `reason` and `detail` of its `Reject`."""


class Source(ABC):
    """A kind of collection."""

    def table(self, csv: Path | None, root: Path | None) -> Path | None:
        """The table to read, where `csv` and `root` are what the user gave."""
        return csv

    @abstractmethod
    def read(self, name: str, csv: Path | None, root: Path | None) -> Iterator[FoundClip | Reject]:
        """Every row once, in order: a clip with its file, or why not.

        Args:
            name: of the collection, part of every uid.
            csv: its table, see `table`.
            root: the folder with its videos.

        Raises:
            UserError: a file that this source needs is not given, not there, or no table of this kind.
        """


class TableSource(Source):
    """A published table beside a folder of videos, which may be cut into the table's clips or whole."""

    required: ClassVar[tuple[str, ...]]  # the first of them names the clip

    @abstractmethod
    def parse(self, cells: Mapping[str, str]) -> Listing:
        """What a row means, from its cells by column.

        Raises:
            BadRow: it cannot be used.
        """

    def read(self, name: str, csv: Path | None, root: Path | None) -> Iterator[FoundClip | Reject]:
        if csv is None or root is None:
            raise UserError(f"--{'csv' if csv is None else 'root'} is missing: wanted the table and the videos' folder")
        if not csv.is_file():
            raise UserError(f"{csv}: no such file, wanted the published table (--csv)")
        rows = read_rows(csv, self.required, progress=True)  # first: a wrong table is told before the long walk
        paths = walk(root)
        videos, cameras = Files(paths, VIDEO_SUFFIXES), Files(paths, CAMERA_SUFFIXES)
        row_of: dict[str, int] = {}
        for row in rows:
            try:
                if row.problem:
                    raise BadRow("wrong_columns", row.problem)
                listing = self.parse(row.cells)
                first = row_of.setdefault(listing.clip_id, row.number)
                if first != row.number:
                    raise BadRow("duplicate", f"the same clip as row {first}")
                yield _look_up(name, row.number, listing, videos, cameras)
            except BadRow as error:
                yield Reject(row.number, row.cells[self.required[0]], *error.args)


def _look_up(name: str, row: int, listing: Listing, videos: Files, cameras: Files) -> FoundClip:
    """The clip with its file: its own if there is one, else a span of the whole video."""
    path, start, end = videos.find(*listing.cut), 0.0, None
    if path is None:
        path, start, end = videos.find(*listing.raw), listing.start_seconds, listing.end_seconds
    if path is not None and printable(path) != path:
        raise BadRow("bad_name", f"{printable(path)}: its name is not valid Unicode; rename it")
    if path is None:
        raise BadRow("missing", f"no video is named {' or '.join((*listing.cut, *listing.raw))}")
    clip = SourceClip(
        uid=video_uid(name, listing.clip_id, start, end),
        source=name,
        clip_id=listing.clip_id,
        path=path,
        start_seconds=start,
        end_seconds=end,
        captions={field: text for field, text in listing.captions.items() if text},
        camera=cameras.find(listing.camera),
        row=row,
        video_id=listing.video_id,
    )
    return FoundClip(clip, listing.end_seconds - listing.start_seconds)


def number(cells: Mapping[str, str], column: str) -> float:
    """A cell as a number from 0.

    Raises:
        BadRow: it is none.
    """
    try:
        value = float(cells[column])
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise BadRow("bad_number", f"{column} is {cells[column]!r}, wanted a number from 0")
    return value
