"""World scores as a table for the terminal and as JSON for programs.

Everywhere ours stands beside references from the same code: the true video (the ceiling), a copy of the last frame that
was given and, for recall, the true video with the hidden objects of another one (the floors).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mpgen.world.scenes import PALETTE, SHAPES
from mpgen.world.scoring.aggregate import (
    ALL,
    Estimate,
    background_curve,
    means,
    recall_bins,
    section_curves,
    summarise,
)
from mpgen.world.scoring.video import VideoScores

GENERATED, TRUTH, COPY, SHUFFLED = "generated", "truth", "copy", "shuffled"


@dataclass(frozen=True)
class Skipped:
    """A video that could not be scored, and why."""

    video: str
    reason: str


def table(scores: Mapping[str, Sequence[VideoScores]]) -> str:
    """One line a metric: each family of the generated videos, all of them, and the references."""
    summaries = {who: summarise(videos) for who, videos in scores.items()}
    ours = summaries[GENERATED]
    families = sorted({video.family for video in scores[GENERATED]})
    columns = [(GENERATED, family) for family in families] + [(who, ALL) for who in scores]
    header = ["", *families, *("all" if who == GENERATED else who for who in scores)]
    rows = [header] + [
        [metric, *(_cell(summaries[who].get(metric, {}).get(family)) for who, family in columns)] for metric in ours
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_record(scores: Mapping[str, Sequence[VideoScores]], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """Every video's scores, the sums, and what was skipped; numbers that do not exist are null."""
    return {
        "videos": [_row(video) for video in scores[GENERATED]],
        "skipped": [asdict(video) for video in skipped],
        "summary": {who: _plain(summarise(videos)) for who, videos in scores.items()},
        "sections": {who: _plain(section_curves(videos)) for who, videos in scores.items()},
        "recall": {who: [_plain(asdict(b)) for b in recall_bins(videos)] for who, videos in scores.items()},
        "background_psnr": {who: _plain(background_curve(videos)) for who, videos in scores.items()},
        "chance": {"colour": 1 / len(PALETTE), "identity": 1 / (len(PALETTE) * len(SHAPES))},
    }


def _cell(value: Estimate | None) -> str:
    if value is None:
        return "-"
    spread = "" if value.half_width is None else f" ±{value.half_width:.2f}"
    return f"{value.mean:.2f}{spread} ({value.count})"


def _row(video: VideoScores) -> dict[str, Any]:
    return {**_plain(asdict(video)), "first_section_right": video.first_section_right, "means": means(video)}


def _plain(value: Any) -> Any:
    """Only what JSON knows."""
    if isinstance(value, Estimate):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain([round(item, 3) for item in value.tolist()])
    return None if isinstance(value, float) and not math.isfinite(value) else value
