"""VBench-Long's average over clips of two seconds, cut from the trace.

VBench-Long writes each clip to a file again, which costs some quality, and can add a score of clip against clip;
neither is done here.
"""

import numpy as np
from jaxtyping import Int

from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.trace import Trace

CLIP_SECONDS = 2.0


def mean_over_clips(trace: Trace, metric: type[VideoMetric]) -> float | None:
    """None where no clip is long enough for the score."""
    values = [metric.score(trace.take(clip)).value for clip in clips(trace.num_frames, trace.fps)]
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def clips(num_frames: int, fps: float, seconds: float = CLIP_SECONDS) -> list[Int[np.ndarray, " k"]]:
    """Equal lengths at the truncated rate, the last one extended backwards to be whole."""
    length = max(1, int(fps) * round(seconds))
    if num_frames <= length:
        return [np.arange(num_frames)]
    starts = [*range(0, num_frames - length, length), num_frames - length]
    return [np.arange(start, start + length) for start in dict.fromkeys(starts)]
