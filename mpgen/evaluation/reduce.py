"""From a trace to scores: VBench's averages, and drift over time (paper §5.2). Pure functions, no network.

Per video first, and the row of numbers that the average is of, so that one can see when a video falls apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mpgen.evaluation.trace import Trace

RAFT_SIDE_PX = 256  # VBench's threshold is 6 px on a picture of this short side
FRACTION = 0.15


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


def consistency(trace: Trace, features: str) -> Score:
    """Half the cosine to the frame before and half that to the first frame, negative cosines as 0; VBench's formula.

    Args:
        trace: holds `features`, one vector a frame; they need not be normalised.
        features: the array's name.
    """
    rows = trace[features].astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    before = np.maximum((rows[1:] * rows[:-1]).sum(1), 0)
    first = np.maximum(rows[1:] @ rows[0], 0) if len(rows) else before
    series = (before + first) / 2
    return Score(_mean(series), series, trace.frame_of(features)[1:])


def average(trace: Trace, scores: str, scale: float = 1.0) -> Score:
    """The mean over frames of an array that has one number a frame, over `scale`."""
    series = trace[scores].astype(np.float64) / scale
    return Score(_mean(series), series, trace.frame_of(scores))


def subject_consistency(trace: Trace) -> Score:
    """In [0, 1], from DINO's features."""
    return consistency(trace, "subject/features")


def background_consistency(trace: Trace) -> Score:
    """In [0, 1], from CLIP's features."""
    return consistency(trace, "background/features")


def aesthetic_quality(trace: Trace) -> Score:
    """About [0, 1], from the LAION head."""
    return average(trace, "aesthetic/score")


def imaging_quality(trace: Trace) -> Score:
    """About [0, 1], from MUSIQ, whose own scale is 0 to 100."""
    return average(trace, "imaging/score", 100.0)


def motion_smoothness(trace: Trace) -> Score:
    """In [0, 1]: how well odd frames are guessed from their even neighbours."""
    return average(trace, "smoothness/score")


def dynamic_degree(trace: Trace) -> Score:
    """1 if the video moves, else 0; the series is how far, as a multiple of VBench's threshold.

    It moves if enough pairs of frames do: a quarter of the sampled frames, rounded half to even. One frame never does;
    of two sampled frames VBench needs no pair, so they always do.
    """
    series = trace["dynamic/score"].astype(np.float64) / flow_threshold_px(trace.height_px, trace.width_px)
    sampled = len(series) + 1
    moves = len(series) > 0 and int((series > 1).sum()) >= round(4 * sampled / 16)
    return Score(float(moves), series, trace.frame_of("dynamic/score"))


def flow_threshold_px(height_px: int, width_px: int) -> float:
    """The motion of the fastest 5 % of a picture, in pixels between sampled frames, above which it counts as moving."""
    return 6 * min(height_px, width_px) / RAFT_SIDE_PX


def structural_consistency(trace: Trace) -> Score:
    """In [0, 1], from correlations of tiny grey pictures: no network."""
    return consistency(trace, "proxies/structure")


def colour_shift(trace: Trace) -> Score:
    """How far the mean colour is from that of the first frame, as a share of the full range: no network."""
    colours = trace["proxies/colour"].astype(np.float64)
    series = np.sqrt(((colours - colours[:1]) ** 2).mean(1))[1:]
    return Score(_mean(series), series, trace.frame_of("proxies/colour")[1:])


def segments(
    order: Int[np.ndarray, " n"], fraction: float = FRACTION, at_least: int = 1
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]] | None:
    """The frames made first and those made last, each in the order of time.

    Args:
        order: the frames the model made, in the order it made them.
        fraction: of them, rounded down, `max(1, int(fraction * n))` as in FramePack's and Helios' convention.
        at_least: frames at each end; consistency needs two.

    Returns:
        None if there are fewer frames than that.
    """
    count = max(at_least, int(fraction * len(order)))
    if len(order) < max(count, 1):
        return None
    return np.sort(order[:count]), np.sort(order[-count:])


def curve(score: Score, fps: float, window_seconds: float = 1.0) -> tuple[Float[np.ndarray, " w"], np.ndarray]:
    """Means over windows of time: the windows' middles in seconds, and the means; those without a number are left out.

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
    """The 95 % interval of the (weighted) mean under drawing videos anew; None with fewer than two."""
    if len(values) < 2:
        return None
    numbers = np.asarray(values, np.float64)
    shares = np.ones(len(numbers)) if weights is None else np.asarray(weights, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(numbers), (draws, len(numbers)))
    means = (numbers * shares)[drawn].sum(1) / shares[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def clips(num_frames: int, fps: float, seconds: float = 2.0) -> list[Int[np.ndarray, " k"]]:
    """VBench-Long's clips: equal lengths at the truncated rate, the last one extended backwards to be whole."""
    length = max(1, int(fps) * round(seconds))
    if num_frames <= length:
        return [np.arange(num_frames)]
    starts = [*range(0, num_frames - length, length), num_frames - length]
    return [np.arange(start, start + length) for start in dict.fromkeys(starts)]


def _mean(series: Float[np.ndarray, " n"]) -> float | None:
    return float(series.mean()) if len(series) else None
