"""What a manifest row becomes: a video to use, or a line in the rejects file."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mpgen.atomic import write_text
from mpgen.errors import printable


@dataclass(frozen=True)
class VideoRecord:
    """One video, or a span of one, with its caption.

    Args:
        uid: 16 hex digits that name the span of the file, see `video_uid`.
        path: the video file.
        caption: may be empty.
        split: "train", "val" or what the manifest says.
        source: the name of the collection it comes from.
        start_seconds: counted from the video's first frame.
        end_seconds: exclusive; None is the video's end.
        row: line of the manifest as a spreadsheet counts it (the header is row 1), for messages.
    """

    uid: str
    path: Path
    caption: str
    split: str
    source: str
    start_seconds: float
    end_seconds: float | None
    row: int


@dataclass(frozen=True, order=True)
class Reject:
    """A row that is not used, and why.

    Args:
        row: line of the manifest, the header is row 1.
        video: the file as the manifest names it.
        reason: a short code, to count by.
        detail: the reason in words.
    """

    row: int
    video: str
    reason: str
    detail: str


def video_uid(source: str, relative_path: str, start_seconds: float, end_seconds: float | None) -> str:
    """The name of a span of a video: the same wherever its folder lies, different for files that share a base name."""
    span = (source, relative_path, repr(start_seconds), repr(end_seconds))
    return hashlib.sha1("\n".join(span).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """A CSV with one line a reject, in the order of the manifest; the same rejects give the same bytes."""
    write_table(path, [field.name for field in fields(Reject)], [astuple(reject) for reject in sorted(rejects)])


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV; what is no valid Unicode in it is written as escapes."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    write_text(path, text.getvalue())


def count_reasons(rejects: Iterable[Reject]) -> str:
    """How often each reason occurs, the most frequent first: `3 missing, 1 too_short`."""
    counts = Counter(reject.reason for reject in rejects)
    return ", ".join(
        f"{count} {reason}" for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
