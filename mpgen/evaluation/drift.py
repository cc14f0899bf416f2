"""Drift, or exposure bias (paper §5.2): how a score changes from what was generated first to what was generated last.

One sign everywhere: Δ = M(V_end) - M(V_start), end minus start, so a loss is negative. |Δ| is the paper's number; noise
makes it larger and a fault in the middle leaves it as it is, so the sign, the slope and the worst second stand beside
it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from mpgen.errors import UserError
from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.sidecar import Generated
from mpgen.evaluation.statistics import curve, theil_sen
from mpgen.evaluation.trace import Trace
from mpgen.sections import DRIFT_SHARE, frames_at_each_end

Reference = Literal["segment", "first"]

CONVENTION = (
    "Δ = M(V_end) - M(V_start), end minus start; |Δ| as in FramePack and in the paper's §5.2. The ends are the first "
    "and the last {percent:g} % of the frames that the model generated, in the order it generated them; given frames "
    "do not count; n = max(1, int({fraction:g} n_generated)) as in Helios' script, at least 2 for what compares "
    "frames. {reference}"
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

    fraction: float = DRIFT_SHARE
    reference: Reference = "segment"
    window_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 0.5:
            raise UserError(f"--drift_fraction {self.fraction}: wanted more than 0 and at most 0.5")

    def __str__(self) -> str:
        """The convention in words, for the output."""
        reference = _REFERENCES[self.reference]
        return CONVENTION.format(percent=100 * self.fraction, fraction=self.fraction, reference=reference)


@dataclass(frozen=True)
class Drift:
    """One video's drift in one score.

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


def drift(trace: Trace, metric: type[VideoMetric], generated: Generated, settings: DriftSettings) -> Drift | None:
    """None for what has no drift, or too few frames for one."""
    if metric.drift_frames == 0:
        return None
    order = generated.order(trace.num_frames)
    ends = segments(order, settings.fraction, metric.drift_frames)
    if ends is None:
        return None
    whole = metric.score(trace)
    if settings.reference == "first" or metric.drift_from_first_frame:
        values = [whole.series[np.isin(whole.frame, end)] for end in ends]
        start, end = (float(value.mean()) if len(value) else None for value in values)
    else:
        start, end = (metric.score(trace.take(end)).value for end in ends)
    if start is None or end is None:
        return None
    seconds, means = curve(whole, trace.fps, settings.window_seconds)
    worst = _worst(means, metric)
    slope = theil_sen(seconds / 60, means)
    return Drift(end - start, start, end, slope, float(seconds[worst]), float(means[worst]))


def segments(
    order: Int[np.ndarray, " n"], fraction: float = DRIFT_SHARE, at_least: int = 1
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]] | None:
    """The frames made first and those made last, each in the order of time.

    Args:
        order: the frames the model made, in the order it made them.
        fraction: of them, rounded down.
        at_least: frames at each end; consistency needs two.

    Returns:
        None if there are fewer frames than that.
    """
    count = frames_at_each_end(len(order), fraction, at_least)
    if len(order) < count:
        return None
    return np.sort(order[:count]), np.sort(order[-count:])


def _worst(means: np.ndarray, metric: type[VideoMetric]) -> int:
    """The lowest (highest) window; of what only describes, the one farthest from the first."""
    if metric.higher_is_better is None:
        return int(np.abs(means - means[0]).argmax())
    return int(means.argmin() if metric.higher_is_better else means.argmax())
