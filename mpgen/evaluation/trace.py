"""What probes measured in one video, frame by frame: pure data, from which every score is a function.

A trace is kept on disk, so that drift, curves and new averages never need a network or a decoder again.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Shaped

from mpgen.atomic import replacing
from mpgen.errors import UserError


@dataclass(frozen=True)
class Series:
    """One probe's rows.

    Args:
        values: one row each: a number, a vector or a picture.
        frame: the frame that each row belongs to, rising.
        others: the other frames that a row depends on, relative to its own: (-1,) for a comparison with the frame
            before. It has no default: where it is forgotten, drift would use rows that have seen frames outside its
            segment.
    """

    values: Shaped[np.ndarray, "n *d"]
    frame: Int[np.ndarray, " n"]
    others: tuple[int, ...]

    @classmethod
    def of_every_frame(cls, values: Shaped[np.ndarray, "n *d"]) -> "Series":
        """One row for each frame, which depends on that frame alone."""
        return cls(values, np.arange(len(values)), ())

    def take(self, kept: Bool[np.ndarray, " frames"]) -> "Series":
        """The series of the video that is left if only these frames are kept.

        A row stays where its own frame and all others that it depends on are kept.
        """
        stays = kept[self.frame]
        for other in self.others:
            place = self.frame + other
            inside = (place >= 0) & (place < len(kept))
            stays = stays & inside & kept[np.clip(place, 0, len(kept) - 1)]
        new_number = np.cumsum(kept) - 1
        return replace(self, values=self.values[stays], frame=new_number[self.frame[stays]])


@dataclass(frozen=True)
class Trace:
    """One video as the probes measured it.

    Args:
        fps: frames per second.
        num_frames: how many there are, or were measured.
        height_px: of a frame.
        width_px: of a frame.
        series: by the name of the probe.
    """

    fps: float
    num_frames: int
    height_px: int
    width_px: int
    series: Mapping[str, Series] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps

    def __contains__(self, name: str) -> bool:
        return name in self.series

    def __getitem__(self, name: str) -> Series:
        return self.series[name]

    def take(self, frames: Int[np.ndarray, " k"]) -> "Trace":
        """The trace of the video that is left if only these frames (rising) are kept."""
        kept = np.zeros(self.num_frames, bool)
        kept[frames] = True
        series = {name: one.take(kept) for name, one in self.series.items()}
        return replace(self, num_frames=len(frames), series=series)


def merge(traces: Iterable[Trace]) -> Trace:
    """One trace of what several probes measured in the same video."""
    first, *rest = traces
    for other in rest:
        first = replace(first, series={**first.series, **other.series})
    return first


def save_trace(trace: Trace, note: str, path: Path) -> None:
    """The trace of one probe with a note on the file, whole or not at all; nothing in it is pickled."""
    ((name, series),) = trace.series.items()
    meta = {key: getattr(trace, key) for key in ("fps", "num_frames", "height_px", "width_px")}
    meta |= {"note": note, "name": name, "others": series.others}
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        text = np.array(json.dumps(meta))
        np.savez(file, allow_pickle=False, values=series.values, frame=series.frame, meta=text)


def load_trace(path: Path) -> tuple[Trace, str]:
    """The trace and the note.

    Raises:
        UserError: it is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            values, frame, meta = arrays["values"], arrays["frame"], json.loads(str(arrays["meta"]))
        note, name, others = meta.pop("note"), meta.pop("name"), tuple(meta.pop("others"))
        return Trace(series={name: Series(values, frame, others)}, **meta), note
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it and run the same command again") from error
