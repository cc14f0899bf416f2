"""From a probe's series to one video's score: pure functions, no network.

A score keeps the row of numbers that it is the mean of, so that one can see when a video falls apart.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mpgen.evaluation.trace import Series


@dataclass(frozen=True)
class Score:
    """One video's score.

    Args:
        value: of the whole video; None if it is too short to have one.
        series: what `value` is the mean of (for dynamic degree: the motion over the threshold).
        frame: the frame that each number belongs to.
    """

    value: float | None
    series: Float[np.ndarray, " n"]
    frame: Int[np.ndarray, " n"]

    @classmethod
    def mean_of(cls, series: Float[np.ndarray, " n"], frame: Int[np.ndarray, " n"]) -> "Score":
        return cls(float(series.mean()) if len(series) else None, series, frame)


def average(series: Series, scale: float = 1.0) -> Score:
    """The mean of a series of numbers, over `scale`."""
    return Score.mean_of(series.values.astype(np.float64) / scale, series.frame)


def consistency(features: Series) -> Score:
    """Half the cosine to the frame before and half that to the first frame, negative cosines as 0; VBench's formula.

    Args:
        features: one vector per frame; they need not be normalised.
    """
    rows = features.values.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    before = np.maximum((rows[1:] * rows[:-1]).sum(1), 0)
    first = np.maximum(rows[1:] @ rows[0], 0) if len(rows) else before
    return Score.mean_of((before + first) / 2, features.frame[1:])


def distance_from_first(values: Series) -> Score:
    """The root mean square difference to the first frame's vector."""
    rows = values.values.astype(np.float64)
    return Score.mean_of(np.sqrt(((rows - rows[:1]) ** 2).mean(1))[1:], values.frame[1:])
