"""Sekai (Li et al. 2025): minute-long walks, drone flights and games, with a caption, labels and, for some, the camera.

One parser reads all splits (Real-Walking, Real-Walking-HQ, Real-Drone, Game-Walking, Game-Drone). The official scripts
put clips into `files/{id}/`, the mirrors elsewhere; the names are unique, so a clip is known by its name alone.
"""

import re
from collections.abc import Mapping

from mpgen.data.curate.sources.base import BadRow, Listing, TableSource
from mpgen.data.curate.sources.files import without_suffix

FPS = 30  # the frame numbers in the names count at this rate, whatever the rate of the video they came from
_STEM = re.compile(r"(.+)_(\d+)_(\d+)")  # from the end: video ids hold `_` themselves


class Sekai(TableSource):
    """A row is `videoFile`, its camera and caption, and labels, which are kept by their names."""

    required = ("videoFile",)

    def parse(self, cells: Mapping[str, str]) -> Listing:
        stem = without_suffix(cells["videoFile"]).rpartition("/")[2]
        parts = _STEM.fullmatch(stem)
        if parts is None:
            raise BadRow(
                "bad_id", f"videoFile is {cells['videoFile']!r}, wanted one such as au1ts-L8MXQ_0021750_0023550.mp4"
            )
        labels = {
            _snake(name): text for name, text in cells.items() if name not in ("videoFile", "cameraFile", "caption")
        }
        camera = without_suffix(cells.get("cameraFile", "")) or stem
        return Listing(
            clip_id=stem,
            video_id=parts[1],
            cut=(stem,),
            raw=(parts[1],),
            start_seconds=int(parts[2]) / FPS,
            end_seconds=int(parts[3]) / FPS,
            captions={"dense": cells.get("caption", ""), **labels},
            camera=camera.rpartition("/")[2],
        )


def _snake(name: str) -> str:
    """`crowdDensity` is `crowd_density`, as our own fields are written."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
