"""An HTML page of accepted and rejected clips, with reasons; the browser plays the clips from the source files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import quote

from mpgen.html import write_html

MOST = 24  # spans of a kind; a page of thousands shows no more and takes minutes to load


@dataclass(frozen=True)
class Shown:
    """A span of a video on the page.

    Args:
        video: its path, from the page's folder or absolute.
        start_seconds, end_seconds: of the span; no end is the file's.
        text: a line under it.
    """

    video: str
    start_seconds: float
    end_seconds: float | None
    text: str

    @property
    def source(self) -> str:
        """As a browser wants it: names in any encoding, and the span to play."""
        end = "" if self.end_seconds is None else f",{self.end_seconds:g}"
        return f"{quote(self.video.encode('utf-8', 'surrogateescape'))}#t={self.start_seconds:g}{end}"


def write_gallery(path: Path, groups: Sequence[tuple[str, Sequence[Shown]]]) -> None:
    """Writes the page; of a large group some are drawn, the same every time.

    Args:
        path: the page.
        groups: what to show, each with its heading.
    """
    drawn = [
        (title, len(shown), shown if len(shown) <= MOST else Random(0).sample(list(shown), MOST))
        for title, shown in groups
    ]
    write_html(path, "mpgen.data.curate", "gallery.html.j2", groups=drawn)
