"""VBench's own rules that need more than a mean: when a video counts as moving."""

import numpy as np

from mpgen.evaluation.scores import Score
from mpgen.evaluation.trace import Series

RAFT_SIDE_PX = 256  # VBench's threshold is 6 px on a picture of this short side


def dynamic_degree(motion: Series, height_px: int, width_px: int) -> Score:
    """1 if the video moves, else 0; the series is how far, as a multiple of VBench's threshold.

    It moves if enough pairs of frames do: a quarter of the sampled frames, rounded half to even. One frame never does;
    of two sampled frames VBench needs no pair, so they always do.
    """
    series = motion.values.astype(np.float64) / flow_threshold_px(height_px, width_px)
    sampled = len(series) + 1
    moves = len(series) > 0 and int((series > 1).sum()) >= round(4 * sampled / 16)
    return Score(float(moves), series, motion.frame)


def flow_threshold_px(height_px: int, width_px: int) -> float:
    """The motion of the fastest 5 % of a picture, in pixels between sampled frames, above which it counts as moving."""
    return 6 * min(height_px, width_px) / RAFT_SIDE_PX
