"""Numbers over time and over videos: curves, slopes, and intervals by the bootstrap."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mpgen.evaluation.scores import Score


def curve(score: Score, fps: float, window_seconds: float = 1.0) -> tuple[Float[np.ndarray, " w"], np.ndarray]:
    """Means over windows of time: the windows' middles in seconds, and the means; windows without a number are skipped.

    A last window of less than half the length joins the one before.
    """
    if not len(score.series):
        return np.zeros(0), np.zeros(0)
    length = max(1, round(window_seconds * fps))
    last = int(score.frame[-1])
    windows = max(1, round((last + 1) / length))
    number = np.minimum(score.frame // length, windows - 1)
    counts = np.bincount(number, minlength=windows)
    sums = np.bincount(number, weights=score.series, minlength=windows)
    places = np.bincount(number, weights=score.frame, minlength=windows)
    there = counts > 0
    return places[there] / counts[there] / fps, sums[there] / counts[there]


def theil_sen(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float | None:
    """The median of the slopes of all pairs of points, which a few wild ones cannot pull; None with fewer than two."""
    if len(x) < 2:
        return None
    i, j = np.triu_indices(len(x), 1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))


def bootstrap(
    values: Sequence[float], weights: Sequence[float] | None = None, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of the (weighted) mean when videos are drawn anew; None with fewer than two."""
    if len(values) < 2:
        return None
    numbers = np.asarray(values, np.float64)
    shares = np.ones(len(numbers)) if weights is None else np.asarray(weights, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(numbers), (draws, len(numbers)))
    means = (numbers * shares)[drawn].sum(1) / shares[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
