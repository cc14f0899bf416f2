"""What one look at every frame of a clip finds, before anybody decides: numbers only, so thresholds can change later.

Frames are looked at small, at `FPS`, and counted from the clip's start. Motion is VMAF's (the mean difference of
blurred luma), kept for every second; beside the mean over the picture its largest value on an 8x8 grid, because a small
subject before a still camera moves a block but hardly the mean.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

FPS = 24
HEIGHT_PX, WIDTH_PX = 144, 256
GRID = 8
FROZEN_MOTION, FROZEN_LOCAL_MOTION = 0.02, 0.2  # a still with a little camera noise has 0.03
DARK_LUMA, BLACK_SHARE = 32, 0.98  # 16 is black
BAR_LUMA, BAR_CONTRAST = 28, 10  # a bar is dark and plain from the first frame to the last
SHORTEST_SPAN = FPS // 2  # of a freeze or a black stretch
_BLUR = np.array([3571, 16004, 26386, 16004, 3571], np.float32) / 65536  # VMAF's, close to a Gaussian
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) * (219 / 255)

Luma = Float[np.ndarray, "h w"]
Span = tuple[int, int]


@dataclass(frozen=True)
class ClipScores:
    """What was found in a clip; times are in frames at `FPS` from the clip's start, spans end before their second.

    Args:
        num_frames: what could be decoded before any damage.
        height_px: as a player shows it.
        width_px: likewise.
        source_fps: frames per second as the file says.
        flags: of `corrupt_stream`, `shorter_than_listed`, `interlaced`, `alpha`, `clock` (time stamps that did not rise
            were put in order), or the reason of the damage.
        detail: of the damage, in words.
        gaps: where the file has no frames for more than a quarter of a second.
        cuts: first frames of new shots.
        soft_cuts: where a dissolve or fade may have been.
        freezes: spans of at least half a second in which nothing moves.
        blacks: spans of at least half a second of black.
        bars: black borders at the top, bottom, left and right, as shares of the height or width.
        motion: VMAF motion, the mean of each second; the last may be short.
        motion_low: its 10th percentile in each second.
        local_motion: 95th percentile in each second of the largest mean over a block.
        luma: mean of each second, 16 (black) to 235.
        flow: for each eighth of a second the mean of the 5 % largest RAFT flows, in pixels of `HEIGHT_PX`; may be
            missing.
    """

    num_frames: int
    height_px: int
    width_px: int
    source_fps: float
    flags: tuple[str, ...]
    detail: str
    gaps: tuple[Span, ...]
    cuts: tuple[int, ...] = ()
    soft_cuts: tuple[int, ...] = ()
    freezes: tuple[Span, ...] = ()
    blacks: tuple[Span, ...] = ()
    bars: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    motion: tuple[float, ...] = ()
    motion_low: tuple[float, ...] = ()
    local_motion: tuple[float, ...] = ()
    luma: tuple[float, ...] = ()
    flow: tuple[float, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ClipScores":
        """The inverse of `to_json` after `json.loads`; TypeError if the keys are others."""
        return cls(**{name: _frozen(value) for name, value in values.items()})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


class FrameScorer(ABC):
    """Something that sees every frame of a clip once and then says what it found."""

    @abstractmethod
    def see(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """The next frame, RGB, `HEIGHT_PX` by `WIDTH_PX`."""

    @abstractmethod
    def found(self) -> dict[str, tuple]:
        """Fields of `ClipScores`."""


class Meter(FrameScorer):
    """Motion, freezes, black and borders, in numpy."""

    def __init__(self) -> None:
        self._blurred: Luma | None = None
        self._motion: list[float] = []
        self._local: list[float] = []
        self._luma: list[float] = []
        self._dark: list[bool] = []
        self._rows = _Extremes(axis=1)
        self._columns = _Extremes(axis=0)

    def see(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        luma = to_luma(picture)
        blurred = blur(luma)
        if self._blurred is not None:
            difference = np.abs(blurred - self._blurred)
            self._motion.append(float(difference.mean()))
            self._local.append(largest_block_mean(difference))
        self._blurred = blurred
        self._luma.append(float(luma.mean()))
        self._dark.append(bool((luma < DARK_LUMA).mean() >= BLACK_SHARE))
        self._rows.see(luma)
        self._columns.see(luma)

    def found(self) -> dict[str, tuple]:
        motion, local = without_spikes(self._motion), without_spikes(self._local)
        # a keyframe makes a frozen picture jump once; a cartoon drawn on threes moves three times in nine frames
        still = (_third_largest(motion, 9) < FROZEN_MOTION) & (_third_largest(local, 9) < FROZEN_LOCAL_MOTION)
        still = np.concatenate([[False], still])[: len(self._luma)]
        return {
            "motion": _by_second(motion, np.mean),
            "motion_low": _by_second(motion, lambda part: np.percentile(part, 10)),
            "local_motion": _by_second(local, lambda part: np.percentile(part, 95)),
            "luma": _by_second(np.array(self._luma), np.mean),
            "freezes": spans_of(still, SHORTEST_SPAN),
            "blacks": spans_of(np.array(self._dark), SHORTEST_SPAN),
            "bars": (*self._rows.borders(), *self._columns.borders()),
        }


class _Extremes:
    """The darkest and the brightest luma of each row (axis 1) or column (axis 0) over time."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.low: Float[np.ndarray, " n"] | None = None
        self.high: Float[np.ndarray, " n"] | None = None

    def see(self, luma: Luma) -> None:
        low, high = luma.min(self.axis), luma.max(self.axis)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)

    def borders(self) -> tuple[float, float]:
        """How much of the length is a bar at the near and the far end."""
        assert self.low is not None
        assert self.high is not None
        plain = (self.high < BAR_LUMA) & (self.high - self.low < BAR_CONTRAST)
        if plain.all():  # black altogether, which is another matter
            return 0.0, 0.0
        near, far = int(np.argmin(plain)), int(np.argmin(plain[::-1]))
        return round(near / len(plain), 3), round(far / len(plain), 3)


def to_luma(picture: UInt8[np.ndarray, "h w 3"]) -> Luma:
    """Y as video stores it, 16 (black) to 235 (white): the scale of VMAF motion and its thresholds."""
    return picture.astype(np.float32) @ _LUMA + 16


def blur(luma: Luma) -> Luma:
    """VMAF's blur of 5 taps in both directions, edges mirrored."""
    for axis in (0, 1):
        padded = np.pad(luma, [(2, 2) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        length = luma.shape[axis]
        luma = sum(weight * padded.take(range(k, k + length), axis) for k, weight in enumerate(_BLUR))
    return luma


def largest_block_mean(difference: Luma) -> float:
    """The largest mean over the blocks of an 8x8 grid."""
    height, width = difference.shape
    blocks = difference.reshape(GRID, height // GRID, GRID, width // GRID)
    return float(blocks.mean((1, 3)).max())


def without_spikes(per_step: list[float]) -> Float[np.ndarray, " n"]:
    """No value above the third largest of those around it: a cut or a flash is no motion."""
    values = np.array(per_step)
    return np.minimum(values, _third_largest(values, 7))


def spans_of(holds: Bool[np.ndarray, " n"], shortest: int) -> tuple[Span, ...]:
    """The spans [first, end) of at least `shortest` frames over which something holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8)))
    return tuple((int(first), int(end)) for first, end in edges.reshape(-1, 2) if end - first >= shortest)


def _third_largest(values: Float[np.ndarray, " n"], width: int) -> Float[np.ndarray, " n"]:
    """Of the `width` values around each."""
    if not len(values):
        return values
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, width // 2, mode="reflect"), width)
    return np.partition(windows, width - 3, axis=1)[:, width - 3]


def _by_second(values: Float[np.ndarray, " n"], summary: Any) -> tuple[float, ...]:
    return tuple(round(float(summary(values[first : first + FPS])), 3) for first in range(0, len(values), FPS))
