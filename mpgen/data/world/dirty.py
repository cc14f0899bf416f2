"""Videos as they are found on disks: broken, awkward, or merely unusual, each with what must come of it.

What must come of them holds for `THRESHOLDS`; the files are small, made in seconds, and the same each time.
"""

import csv
from dataclasses import astuple, fields
from pathlib import Path

from mpgen.data.atomic import replacing
from mpgen.data.filters import Thresholds
from mpgen.data.world import dirty_content, dirty_files, dirty_formats
from mpgen.data.world.films import HEIGHT_PX, WIDTH_PX, DirtyVideo

THRESHOLDS = Thresholds(height_px=HEIGHT_PX, width_px=WIDTH_PX, section_latent_frames=2)
KINDS = (*dirty_files.KINDS, *dirty_content.KINDS, *dirty_formats.KINDS)


def write_dirty(root: Path) -> tuple[DirtyVideo, ...]:
    """Makes the files in `root`, with the table `dirty.csv`; its column `video` makes it a manifest too."""
    root.mkdir(parents=True, exist_ok=True)
    for kind, make in KINDS:
        make(root / kind.video)
    with replacing(root / "dirty.csv") as half_written, half_written.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(DirtyVideo))
        writer.writerows(astuple(kind) for kind, _ in KINDS)
    return tuple(kind for kind, _ in KINDS)
