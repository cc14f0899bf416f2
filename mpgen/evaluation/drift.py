"""Drift, or exposure bias (paper §5.2): what a video loses from its beginning to what was generated last.

Δ = M(V_start) - M(V_end), both cut from the frames that the model made, in the order it made them. |Δ| is the paper's
number; noise makes it larger and a fault in the middle leaves it as it is, so the sign, the slope and the worst second
stand beside it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from mpgen.errors import UserError
from mpgen.evaluation import reduce
from mpgen.evaluation.dimensions import Dimension
from mpgen.evaluation.trace import Trace

Reference = Literal["segment", "first"]

SOURCE = (
    "Δ = |M(V_start) - M(V_end)| as in FramePack and in the paper's §5.2: the first and the last {percent:g} % of the "
    "frames that the model generated, in the order it generated them; given frames are left out; n = max(1, int("
    "{fraction:g} n_generated)) as in Helios' script, at least 2 for what compares frames. {reference}"
)
_REFERENCES = {
    "segment": "Consistency of an end is that of the end as a video of its own, with its own first frame.",
    "first": "Consistency of an end is measured against the first frame of the whole video.",
}


@dataclass(frozen=True)
class DriftSettings:
    """The convention.

    Args:
        fraction: of the generated frames at each end, in (0, 0.5].
        reference: what the ends' consistency is measured against: each end's own first frame, or the whole video's.
        window_seconds: of the curves.
    """

    fraction: float = reduce.FRACTION
    reference: Reference = "segment"
    window_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 0.5:
            raise UserError(f"--drift_fraction {self.fraction}: wanted more than 0 and at most 0.5")

    def __str__(self) -> str:
        """The convention in words, for the output."""
        return SOURCE.format(percent=100 * self.fraction, fraction=self.fraction, reference=_REFERENCES[self.reference])


@dataclass(frozen=True)
class Generated:
    """Which frames the model made, in the order it made them, as the JSON beside the video says.

    Args:
        spans: [first, stop) frames, in the order they were made; None for all after the given ones.
        given: frames at the start that were given to the model.
        known: whether anything said so.
    """

    spans: tuple[tuple[int, int], ...] | None = None
    given: int = 0
    known: bool = False

    def order(self, num_frames: int) -> Int[np.ndarray, " n"]:
        """The frames' numbers; what lies beyond the end of the video is left out."""
        spans = self.spans if self.spans is not None else ((self.given, num_frames),)
        frames = [np.arange(first, min(stop, num_frames)) for first, stop in spans]
        return np.concatenate(frames) if frames else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Drift:
    """One video's drift in one dimension.

    Args:
        delta: end minus start; the paper's number is its absolute value.
        start: the score of what was made first.
        end: the score of what was made last.
        slope_per_minute: Theil-Sen's, of the curve over the video's own time; None if it has one window.
        worst_seconds: the middle of the worst window.
        worst: the mean there.
    """

    delta: float
    start: float
    end: float
    slope_per_minute: float | None
    worst_seconds: float
    worst: float


def drift(trace: Trace, dimension: Dimension, generated: Generated, settings: DriftSettings) -> Drift | None:
    """None for what has no drift, or too few frames for one."""
    if dimension.drift_frames == 0:
        return None
    order = generated.order(trace.num_frames)
    ends = reduce.segments(order, settings.fraction, dimension.drift_frames)
    if ends is None:
        return None
    whole = dimension.score(trace)
    if settings.reference == "first" or dimension.from_start:
        values = [whole.series[np.isin(whole.frame, end)] for end in ends]
        start, end = (float(value.mean()) if len(value) else None for value in values)
    else:
        start, end = (dimension.score(trace.take(end)).value for end in ends)
    if start is None or end is None:
        return None
    seconds, means = reduce.curve(whole, trace.fps, settings.window_seconds)
    worst = _worst(means, dimension)
    slope = reduce.theil_sen(seconds / 60, means)
    return Drift(end - start, start, end, slope, float(seconds[worst]), float(means[worst]))


def read_generated(sidecar: Path) -> Generated:
    """What the JSON beside a video says of it; a video without one was made from its first frame on, in time's order.

    `generated` is a list of [first, stop) in the order they were made. Without it, `context_frames` given frames are
    left out, and `order: f0` with `section_frames` (as `mpgen generate` writes) means the last section first.

    Raises:
        UserError: it is no JSON object, or these keys hold something else.
    """
    if not sidecar.is_file():
        return Generated()
    try:
        card = json.loads(sidecar.read_text(encoding="utf-8"))
        given = int(card.get("context_frames", 0))
        if "generated" in card:
            spans = tuple((int(first), int(stop)) for first, stop in card["generated"])
            if any(first < 0 or stop <= first for first, stop in spans):
                raise ValueError("a span that is empty or begins before the video")
            return Generated(spans, given, True)
        if card.get("order") != "f0":
            return Generated(None, given, "context_frames" in card)
        section, sections = int(card["section_frames"]), int(card["num_sections"])
        spans = tuple((given + k * section, given + (k + 1) * section) for k in reversed(range(sections)))
        return Generated(spans, given, True)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{sidecar}: wanted a JSON object; `generated` as a list of [first, stop), `context_frames` a whole number"
        ) from error


def _worst(means: np.ndarray, dimension: Dimension) -> int:
    """The lowest (highest) window; of what only describes, the one farthest from the first."""
    if dimension.better == "neither":
        return int(np.abs(means - means[0]).argmax())
    return int(means.argmin() if dimension.better == "higher" else means.argmax())
