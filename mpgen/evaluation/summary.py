"""Many videos' numbers summed up by method and length, each mean with its 95 % interval over videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from mpgen.evaluation.metric import Averaging, VideoMetric
from mpgen.evaluation.results import VideoResult
from mpgen.evaluation.statistics import bootstrap

ALL = "all"
T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """A mean over `count` videos; `low` and `high` are its bootstrap interval, None for one video."""

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class MeanCurve:
    """A score over time, averaged over a group's videos while half of them last; `spread` is 1.96 standard errors."""

    seconds: Float[np.ndarray, " w"]
    means: Float[np.ndarray, " w"]
    spread: Float[np.ndarray, " w"]


@dataclass(frozen=True)
class Group:
    """The videos of one method and one length (or of all lengths).

    Args:
        method: what made them.
        length: "10 s", ... or "all".
        videos: how many.
        scores: by metric.
        drifts: the mean of |Δ|, by metric: the paper's number.
        signed_drifts: the mean of end minus start.
        slopes: the mean of Theil-Sen slopes, per minute.
        curves: by metric.
    """

    method: str
    length: str
    videos: int
    scores: dict[str, Cell]
    drifts: dict[str, Cell]
    signed_drifts: dict[str, Cell]
    slopes: dict[str, Cell]
    curves: dict[str, MeanCurve]

    @property
    def title(self) -> str:
        return f"{self.method} {self.length}"


def summarise(
    results: Sequence[VideoResult], metrics: Sequence[type[VideoMetric]], averaging: Averaging = "video"
) -> list[Group]:
    """A group for each method and length, and one for each method's videos together.

    Args:
        results: at least one.
        metrics: which scores.
        averaging: "video", or "frame" to weigh videos by their frames where VBench does (the two consistencies).
    """
    groups = []
    for method in sorted({result.method for result in results}):
        of_method = [result for result in results if result.method == method]
        lengths = sorted({result.length for result in of_method}, key=lambda length: int(length.split()[0]))
        for length in [*lengths, ALL]:
            chosen = [result for result in of_method if length in (result.length, ALL)]
            groups.append(_group(method, length, chosen, metrics, averaging))
    return groups


def shown(groups: Sequence[Group]) -> list[Group]:
    """Without the sums of methods that have one length only: they would say the same twice."""
    methods = [group.method for group in groups]
    return [group for group in groups if group.length != ALL or methods.count(group.method) > 2]


def worst_first(results: Sequence[VideoResult], metrics: Sequence[type[VideoMetric]]) -> list[VideoResult]:
    """Videos by their mean rank over what has a good and a bad side: low scores and large |Δ| come first."""
    ranks: dict[str, list[float]] = {result.name: [] for result in results}
    for metric in metrics:
        if metric.higher_is_better is None:
            continue
        sign = 1 if metric.higher_is_better else -1
        _rank(ranks, {r.name: sign * r.scores[metric.name].value for r in results if metric.name in r.scores})
        _rank(ranks, {r.name: -abs(r.drifts[metric.name].delta) for r in results if metric.name in r.drifts})
    return sorted(results, key=lambda result: (np.mean(ranks[result.name] or [1.0]), result.name))


def mean_curve(results: Sequence[VideoResult], name: str) -> MeanCurve | None:
    """Window by window over the videos that have one there, while at least half of them do; None without any."""
    curves = [result.curves[name] for result in results if name in result.curves]
    if not curves:
        return None
    table = np.full((len(curves), max(len(curve.means) for curve in curves)), np.nan)
    times = table.copy()
    for row, time, curve in zip(table, times, curves, strict=True):
        row[: len(curve.means)], time[: len(curve.means)] = curve.means, curve.seconds
    counts = np.isfinite(table).sum(0)
    kept = counts * 2 >= len(curves)
    table, times, counts = table[:, kept], times[:, kept], counts[kept]
    means = np.nansum(table, 0) / counts
    variance = np.nansum((table - means) ** 2, 0) / np.maximum(counts - 1, 1)
    return MeanCurve(np.nansum(times, 0) / counts, means, 1.96 * np.sqrt(variance / counts))


def _group(
    method: str, length: str, results: list[VideoResult], metrics: Sequence[type[VideoMetric]], averaging: Averaging
) -> Group:
    scores, drifts, signed, slopes, curves = {}, {}, {}, {}, {}
    for metric in metrics:
        name = metric.name
        _put(scores, name, _mean_score(metric, results, averaging))
        found = [result.drifts[name] for result in results if name in result.drifts]
        _put(drifts, name, mean_of([abs(one.delta) for one in found]))
        _put(signed, name, mean_of([one.delta for one in found]))
        _put(slopes, name, mean_of([one.slope_per_minute for one in found if one.slope_per_minute is not None]))
        _put(curves, name, mean_curve(results, name))
    return Group(method, length, len(results), scores, drifts, signed, slopes, curves)


def _mean_score(metric: type[VideoMetric], results: Sequence[VideoResult], averaging: Averaging) -> Cell | None:
    """The metric's own mean over videos, by frames only where VBench does so."""
    over_videos = metric(average=averaging if metric.weighs_by_frames else "video")
    scores = [result.scores[metric.name] for result in results if metric.name in result.scores]
    if not scores:
        return None
    for score in scores:
        over_videos.update(score)
    interval = bootstrap([score.value for score in scores], [over_videos.weight_of(score) for score in scores])
    low, high = interval or (None, None)
    return Cell(float(over_videos.compute()), low, high, len(scores))


def mean_of(values: Sequence[float]) -> Cell | None:
    """With its interval over the values; None without any."""
    if not values:
        return None
    low, high = bootstrap(values) or (None, None)
    return Cell(float(np.mean(values)), low, high, len(values))


def _put(there: dict[str, T], name: str, value: T | None) -> None:
    if value is not None:
        there[name] = value


def _rank(ranks: dict[str, list[float]], values: dict[str, float]) -> None:
    """Adds each video's rank in [0, 1], 0 the worst; equal values share theirs."""
    if len(values) < 2:
        return
    ordered = np.sort(list(values.values()))
    for name, value in values.items():
        place = (np.searchsorted(ordered, value, "left") + np.searchsorted(ordered, value, "right") - 1) / 2
        ranks[name].append(float(place / (len(ordered) - 1)))
