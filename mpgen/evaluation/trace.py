"""What was seen of one video, frame by frame: pure data, from which every score is a function.

A trace is kept on disk, so that drift, curves and new averages never need a network or a decoder again. Arrays are
named `probe/what`, one row a frame; `probe/frame` holds the frames' numbers where a probe did not look at every one. A
row that compares frames belongs to the frame named there, and `_REACH` says what else it has seen.
"""

import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Int

from mpgen.atomic import replacing
from mpgen.errors import UserError

# Frames before and after its own that a row has seen, by probe or array; other rows have seen their own frame only.
_REACH: Mapping[str, Callable[[float], tuple[int, int]]] = MappingProxyType(
    {
        "dynamic": lambda fps: (flow_stride(fps), 0),
        "smoothness": lambda fps: (1, 1),
        "proxies/motion": lambda fps: (1, 0),
    }
)


def flow_stride(fps: float) -> int:
    """VBench looks at the motion between every so many frames: about eight times a second."""
    return max(1, round(fps / 8))


@dataclass(frozen=True)
class Trace:
    """One video as the probes saw it.

    Args:
        fps: frames a second.
        num_frames: how many there are, or were looked at.
        height_px: of a frame.
        width_px: of a frame.
        arrays: by name, see above.
    """

    fps: float
    num_frames: int
    height_px: int
    width_px: int
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def frame_of(self, name: str) -> Int[np.ndarray, " n"]:
        """The frame that each row of an array belongs to."""
        index = self._index_name(name)
        return np.arange(self.num_frames) if index is None else self.arrays[index]

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "Trace":
        return replace(self, arrays={**self.arrays, **arrays})

    def take(self, frames: Int[np.ndarray, " k"]) -> "Trace":
        """The trace of the video that would be left if only these frames (rising) were kept.

        What compares frames is kept where all it compares is kept.
        """
        kept = np.zeros(self.num_frames, bool)
        kept[frames] = True
        new_number = np.cumsum(kept) - 1
        arrays = {}
        for name, rows in self.arrays.items():
            own = self.frame_of(name)
            before, after = _reach(name, self.fps)
            there = kept[own]
            if before:
                there &= (own >= before) & kept[np.maximum(own - before, 0)]
            if after:
                there &= (own + after < self.num_frames) & kept[np.minimum(own + after, self.num_frames - 1)]
            arrays[name] = new_number[rows[there]] if name == self._index_name(name) else rows[there]
        return replace(self, num_frames=len(frames), arrays=arrays)

    def _index_name(self, name: str) -> str | None:
        """The array of frame numbers that belongs to an array: its own (`a/b/frame`) or its probe's (`a/frame`)."""
        if name.endswith("/frame"):
            return name
        for candidate in (f"{name}/frame", f"{name.split('/')[0]}/frame"):
            if candidate in self.arrays:
                return candidate
        return None


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Whole or not at all; nothing in it is pickled."""
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """
    Raises:
        UserError: it is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it and run the same command again") from error


def merge(traces: Iterable[Trace]) -> Trace:
    """One trace of what several looks at the same video saw."""
    first, *rest = traces
    for other in rest:
        first = first.with_arrays(other.arrays)
    return first


def _reach(name: str, fps: float) -> tuple[int, int]:
    base = name.removesuffix("/frame")
    rule = _REACH.get(base) or _REACH.get(base.split("/")[0])
    return (0, 0) if rule is None else rule(fps)
