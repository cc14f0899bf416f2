"""Files that are whole or absent: everything the data path writes goes through `replacing`."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` on a clean exit and is removed otherwise.

    A process that is killed leaves a hidden `.tmp` file, which nobody reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half_written = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield half_written
        os.replace(half_written, path)
    finally:
        half_written.unlink(missing_ok=True)
