"""Empty files under the names that the published layouts give, and tables with the published headers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mpgen.data.curate.sources.base import FoundClip, Source
from mpgen.data.records import Reject


@pytest.fixture
def touch(tmp_path) -> Callable[..., Path]:
    """Makes empty files below a folder `videos`; returns that folder."""

    def make(*names: str) -> Path:
        root = tmp_path / "videos"
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return root

    return make


@pytest.fixture
def read_source(tmp_path) -> Callable[..., tuple[list[FoundClip], list[Reject]]]:
    """What a source makes of a table with such content and a folder."""

    def read(source: Source, content: str | bytes, root: Path) -> tuple[list[FoundClip], list[Reject]]:
        csv = tmp_path / "table.csv"
        csv.write_bytes(content.encode() if isinstance(content, str) else content)
        rows = list(source.read("name", csv, root))
        found = [row for row in rows if isinstance(row, FoundClip)]
        return found, [row for row in rows if isinstance(row, Reject)]

    return read
