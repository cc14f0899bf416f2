"""Means with intervals over videos and seeds, which are not independent of each other.

Every row is asked the same videos, once a seed: a matrix of seeds and videos. Both are drawn anew, whole (a crossed
bootstrap), so objects and sections of one video never count as independent. With one seed only the videos are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

DRAWS = 4000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; `videos` and `seeds` say over how many."""

    mean: float
    low: float
    high: float
    videos: int
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


Answers = Mapping[int, Mapping[str, float]]  # of each seed, of each video


def interval(answers: Answers) -> Interval | None:
    """The mean over videos and seeds; None where nothing was asked.

    Args:
        answers: a number for each video of each seed; what a seed lacks does not count.
    """
    values = _matrix(answers, _videos(answers))
    return None if values is None else _interval(values)


def difference(answers: Answers, others: Answers) -> Interval | None:
    """The same of the differences to another row, video by video, where both were asked with the same seed."""
    seeds = [seed for seed in answers if seed in others]
    own, other = ({seed: row[seed] for seed in seeds} for row in (answers, others))
    videos = [video for video in _videos(own) if video in set(_videos(other))]
    a, b = _matrix(own, videos), _matrix(other, videos)
    return None if a is None or b is None else _interval(a - b)


def _videos(answers: Answers) -> list[str]:
    return list(dict.fromkeys(video for videos in answers.values() for video in videos))


def _matrix(answers: Answers, videos: Sequence[str]) -> Float[np.ndarray, "seeds videos"] | None:
    if not answers or not videos:
        return None
    return np.array([[own.get(video, np.nan) for video in videos] for own in answers.values()], np.float64)


def _interval(values: Float[np.ndarray, "seeds videos"]) -> Interval | None:
    if not np.isfinite(values).any():
        return None
    seeds, videos = values.shape
    rows = np.random.default_rng(0).integers(0, seeds, (DRAWS, seeds))
    columns = np.random.default_rng(1).integers(0, videos, (DRAWS, videos))
    drawn = values[rows[:, :, None], columns[:, None, :]].reshape(DRAWS, -1)
    kept = drawn[np.isfinite(drawn).any(1)]
    low, high = np.quantile(np.nanmean(kept, 1), (0.025, 0.975))
    return Interval(float(np.nanmean(values)), float(low), float(high), videos, seeds)
