"""Methods compared on the same prompts: videos of one name side by side, and differences within them.

Prompts differ more than methods do, so a difference within prompts has a narrower interval than two means have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath

from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.results import VideoResult
from mpgen.evaluation.summary import Cell, mean_of

SamePrompt = dict[str, VideoResult]  # by method


@dataclass(frozen=True)
class Difference:
    """Second method minus first, over the videos that both have.

    Args:
        first, second: the methods.
        scores: by metric.
        drifts: of |Δ|, by metric.
    """

    first: str
    second: str
    scores: dict[str, Cell]
    drifts: dict[str, Cell]


def same_prompts(results: Sequence[VideoResult]) -> dict[str, SamePrompt]:
    """Videos of one file name that at least two methods have, in the order of their names."""
    by_name: dict[str, SamePrompt] = {}
    for result in sorted(results, key=lambda result: result.name):
        by_name.setdefault(PurePosixPath(result.name).name, {}).setdefault(result.method, result)
    return {name: by_method for name, by_method in sorted(by_name.items()) if len(by_method) > 1}


def differences(prompts: Sequence[SamePrompt], metrics: Sequence[type[VideoMetric]]) -> list[Difference]:
    """Of every two methods that share a video, each mean with its 95 % interval over videos."""
    found = []
    for first, second in combinations(sorted({method for prompt in prompts for method in prompt}), 2):
        pairs = [(prompt[first], prompt[second]) for prompt in prompts if first in prompt and second in prompt]
        scores, drifts = {}, {}
        for name in (metric.name for metric in metrics):
            scored = [(a.scores[name], b.scores[name]) for a, b in pairs if name in a.scores and name in b.scores]
            drifted = [(a.drifts[name], b.drifts[name]) for a, b in pairs if name in a.drifts and name in b.drifts]
            scores[name] = mean_of([b.value - a.value for a, b in scored])
            drifts[name] = mean_of([abs(b.delta) - abs(a.delta) for a, b in drifted])
        if pairs:
            there = [{name: cell for name, cell in cells.items() if cell is not None} for cells in (scores, drifts)]
            found.append(Difference(first, second, *there))
    return found
