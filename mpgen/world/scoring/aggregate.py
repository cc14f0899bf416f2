"""Many videos' scores summed up: means with a 95 % interval, per family, per section, per hidden length."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from types import MappingProxyType

import numpy as np

from mpgen.world.scoring.fidelity import drift
from mpgen.world.scoring.objects import ObjectScores
from mpgen.world.scoring.recall import RecallScore
from mpgen.world.scoring.video import VideoScores

ALL = "all"
LAST_SECONDS = 4.0  # "the end" of a video
HIDDEN_SECONDS = (0.0, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0, math.inf)  # bounds of the bins


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` values; it is uncertain by `half_width` either way (normal, 95 %; None for one value)."""

    mean: float
    half_width: float | None
    count: int


def estimate(values: Iterable[float]) -> Estimate | None:
    """None if there is no value; values that are not finite do not count."""
    numbers = np.array([value for value in values if math.isfinite(value)], np.float64)
    if not len(numbers):
        return None
    spread = 1.96 * float(numbers.std(ddof=1)) / math.sqrt(len(numbers)) if len(numbers) > 1 else None
    return Estimate(float(numbers.mean()), spread, len(numbers))


def _present(value: float | bool | None) -> list[float]:
    return [] if value is None else [float(value)]


def _at_the_end(video: VideoScores) -> list[ObjectScores]:
    """Objects of the sections in the last `LAST_SECONDS`; none where the video is no longer than that."""
    count = round(LAST_SECONDS * video.fps / video.section_frames)
    return [] if len(video.sections) <= count else [obj for section in video.sections[-count:] for obj in section]


def _found(section: Sequence[ObjectScores]) -> float:
    return float(np.mean([obj.found for obj in section])) if section else math.nan


def _returned(video: VideoScores) -> list[RecallScore]:
    return [recall for recall in video.recalls if recall.witnessed and recall.came_back]


# Each gives the values of one video: none, one, or one for each object.
METRICS: MappingProxyType[str, Callable[[VideoScores], list[float]]] = MappingProxyType(
    {
        "first section: video right": lambda s: _present(s.first_section_right),
        "first section: colour right": lambda s: [float(o.colour_right) for o in s.first_section],
        "first section: drawn as one": lambda s: [float(o.drawn_as_one) for o in s.first_section],
        "first section: position error (diameters)": lambda s: [o.position_error_diameters for o in s.first_section],
        "first section: moved as told": lambda s: [float(o.moved) for o in s.first_section if o.moved is not None],
        "all sections: found": lambda s: [o.found for section in s.sections for o in section],
        "all sections: colour and shape": lambda s: [o.identified for section in s.sections for o in section],
        "all sections: position error (diameters)": lambda s: [
            o.position_error_diameters for section in s.sections for o in section
        ],
        "last four seconds: found": lambda s: [o.found for o in _at_the_end(s)],
        "last four seconds: colour and shape": lambda s: [o.identified for o in _at_the_end(s)],
        "objects found: drift": lambda s: _present(drift(np.array([_found(section) for section in s.sections]))),
        "recall: came back (seen in true frames)": lambda s: [float(r.came_back) for r in s.recalls if r.witnessed],
        "recall: colour and shape": lambda s: [float(r.identity_right) for r in s.recalls if r.witnessed],
        "recall: colour, if it came back": lambda s: [float(r.colour_right) for r in _returned(s)],
        "recall: identity, if it came back": lambda s: [float(r.identity_right) for r in _returned(s)],
        "recall: same colour as its own before": lambda s: [
            float(r.self_consistent) for r in s.recalls if not r.witnessed and r.self_consistent is not None
        ],
        "revisit: PSNR to the first visit (dB)": lambda s: [s.revisits.psnr_to_first_visit] if s.revisits else [],
        "revisit: PSNR to the truth (dB)": lambda s: [s.revisits.psnr_to_truth] if s.revisits else [],
        "revisit: landmarks found": lambda s: _present(s.revisits.landmarks_found) if s.revisits else [],
        "background: PSNR (dB)": lambda s: _finite_mean(s.background_psnr),
        "background: drift (dB)": lambda s: _present(s.background_drift),
        "grey chart: error (levels)": lambda s: _finite_mean(s.chart_error),
        "grey chart: drift (levels)": lambda s: _present(s.chart_drift),
    }
)


def means(video: VideoScores) -> dict[str, float]:
    """One number a metric of one video, the mean over its objects; what it has no values of is left out."""
    found = {metric: estimate(values(video)) for metric, values in METRICS.items()}
    return {metric: value.mean for metric, value in found.items() if value is not None}


def summarise(videos: Sequence[VideoScores]) -> dict[str, dict[str, Estimate]]:
    """Metric -> family (and "all") -> estimate; what no video has is left out."""
    families = [*dict.fromkeys(video.family for video in videos), ALL]
    summary = {}
    for metric, values in METRICS.items():
        row = {
            family: found
            for family in families
            if (found := estimate(v for s in videos if family in (s.family, ALL) for v in values(s))) is not None
        }
        if row:
            summary[metric] = row
    return summary


def section_curves(videos: Sequence[VideoScores]) -> dict[str, list[Estimate | None]]:
    """Found, position error and area ratio of all objects, by the number of the section."""
    longest = max(len(video.sections) for video in videos)
    curves: dict[str, list[Estimate | None]] = {"found": [], "position_error_diameters": [], "area_ratio": []}
    for number in range(longest):
        objects = [obj for video in videos if number < len(video.sections) for obj in video.sections[number]]
        curves["found"].append(estimate(obj.found for obj in objects))
        curves["position_error_diameters"].append(estimate(obj.position_error_diameters for obj in objects))
        curves["area_ratio"].append(estimate(obj.area_ratio for obj in objects if obj.area_ratio is not None))
    return curves


def background_curve(videos: Sequence[VideoScores]) -> list[float]:
    """Mean background PSNR of each generated frame over the videos that have one there; NaN where none has."""
    longest = max(len(video.background_psnr) for video in videos)
    table = np.full((len(videos), longest), np.nan)
    for row, video in zip(table, videos, strict=True):
        row[: len(video.background_psnr)] = video.background_psnr
    counts = np.isfinite(table).sum(0)
    return np.where(counts > 0, np.nansum(table, 0) / np.maximum(counts, 1), np.nan).tolist()


@dataclass(frozen=True)
class RecallBin:
    """Recall of objects that were hidden from `low` to `high` seconds."""

    low: float
    high: float
    seconds: float
    colour: Estimate
    identity: Estimate


def recall_bins(videos: Sequence[VideoScores]) -> list[RecallBin]:
    """What was witnessed and came back, by hidden length; empty bins are left out."""
    recalls = [recall for video in videos for recall in _returned(video)]
    bins = []
    for low, high in pairwise(HIDDEN_SECONDS):
        inside = [recall for recall in recalls if low <= recall.hidden_seconds < high]
        colour = estimate(float(recall.colour_right) for recall in inside)
        identity = estimate(float(recall.identity_right) for recall in inside)
        if colour is not None and identity is not None:
            seconds = float(np.mean([recall.hidden_seconds for recall in inside]))
            bins.append(RecallBin(low, high, seconds, colour, identity))
    return bins


def shuffled_identities(videos: Sequence[VideoScores]) -> list[VideoScores]:
    """The same videos, each with the hidden objects of the next coming back: what recall is worth without a memory.

    Where only one video has something to recall there is no other, and nothing is recalled.
    """
    recalled = [video.recalls for video in videos if video.recalls]
    if len(recalled) < 2:
        return [replace(video, recalls=()) for video in videos]
    following = iter(recalled[1:] + recalled[:1])
    return [
        replace(video, recalls=tuple(map(_mistaken, video.recalls, cycle(next(following))))) if video.recalls else video
        for video in videos
    ]


def _mistaken(own: RecallScore, other: RecallScore) -> RecallScore:
    seen = (other.seen_colour, other.seen_shape)
    return replace(
        own,
        seen_colour=other.seen_colour,
        seen_shape=other.seen_shape,
        colour_right=own.seen_colour == other.seen_colour,
        identity_right=(own.seen_colour, own.seen_shape) == seen,
    )


def _finite_mean(values: np.ndarray) -> list[float]:
    finite = values[np.isfinite(values)]
    return [float(finite.mean())] if len(finite) else []
