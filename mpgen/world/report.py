"""World scores shown: a table for the terminal, a JSON for programs, curves for the eye.

Everywhere ours stands beside references from the same code: the true video (the ceiling), a copy of the last frame that
was given and, for recall, the true video with the hidden things of another one (the floors).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpgen.atomic import replacing
from mpgen.world.aggregate import (
    ALL,
    Estimate,
    background_curve,
    recall_bins,
    section_curves,
    summarise,
)
from mpgen.world.scenes import PALETTE, SHAPES
from mpgen.world.scores import VideoScores

GENERATED, TRUTH, COPY, SHUFFLED = "generated", "truth", "copy", "shuffled"
_STYLES = {
    GENERATED: ("tab:blue", "o-"),
    TRUTH: ("tab:green", "--"),
    COPY: ("tab:gray", ":"),
    SHUFFLED: ("tab:orange", "-."),
}


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
    """Every video's scores, the sums, and what was left out; numbers that do not exist are null."""
    return {
        "videos": [_row(video) for video in scores[GENERATED]],
        "skipped": [asdict(video) for video in skipped],
        "summary": {who: _plain(summarise(videos)) for who, videos in scores.items()},
        "sections": {who: _plain(section_curves(videos)) for who, videos in scores.items()},
        "recall": {who: [_plain(asdict(b)) for b in recall_bins(videos)] for who, videos in scores.items()},
        "background_psnr": {who: _plain(background_curve(videos)) for who, videos in scores.items()},
        "chance": {"colour": 1 / len(PALETTE), "identity": 1 / (len(PALETTE) * len(SHAPES))},
    }


def plot_curves(scores: Mapping[str, Sequence[VideoScores]], path: Path) -> None:
    """Found, position error and area by section, and the background's PSNR over time."""
    figure, panels = _figure(4)
    names = {
        "found": "objects found",
        "position_error_diameters": "position error (diameters)",
        "area_ratio": "area / true area",
    }
    for who, videos in scores.items():
        curves = section_curves(videos)
        for axes, key in zip(panels[: len(names)], names, strict=True):
            points = [(number + 1.0, value) for number, value in enumerate(curves[key]) if value is not None]
            _draw(axes, [number for number, _ in points], [value for _, value in points], who)
            axes.set(xlabel="section", title=names[key])
        curve = background_curve(videos)
        seconds = np.arange(1, len(curve) + 1) / videos[0].fps
        panels[3].plot(seconds, curve, _STYLES[who][1].strip("o"), color=_STYLES[who][0], label=who)
    panels[3].set(xlabel="seconds after the given frames", title="background PSNR (dB)")
    panels[0].set_ylim(-0.05, 1.05)
    panels[0].legend()
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png")


def plot_recall(scores: Mapping[str, Sequence[VideoScores]], path: Path) -> None:
    """Recall of what was hidden against how long it was hidden."""
    figure, panels = _figure(2)
    chances = (1 / len(PALETTE), 1 / (len(PALETTE) * len(SHAPES)))
    for axes, key, chance in zip(panels, ("colour", "identity"), chances, strict=True):
        for who, videos in scores.items():
            bins = recall_bins(videos)
            values = [b.colour if key == "colour" else b.identity for b in bins]
            _draw(axes, [b.seconds for b in bins], values, who)
            if who == GENERATED:
                for b, value in zip(bins, values, strict=True):
                    axes.annotate(f"n={value.count}", (b.seconds, value.mean), (3, 4), textcoords="offset points")
                if not bins:
                    axes.text(0.5, 0.5, "nothing hidden was seen in true frames\nand came back in generated ones",
                              ha="center", transform=axes.transAxes)  # fmt: skip
        axes.axhline(chance, color="tab:red", linewidth=1, linestyle=":", label="chance")
        title = "colour right" if key == "colour" else "colour and shape right"
        axes.set(xlabel="seconds hidden", title=title, ylim=(-0.05, 1.1))
    panels[0].legend()
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _figure(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(3.6 * count, 3.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _draw(axes: Axes, x: Sequence[float], values: Sequence[Estimate], who: str) -> None:
    colour, style = _STYLES[who]
    axes.plot(x, [value.mean for value in values], style, color=colour, label=who, markersize=4)
    if who == GENERATED:
        low = [value.mean - (value.half_width or 0) for value in values]
        high = [value.mean + (value.half_width or 0) for value in values]
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _cell(value: Estimate | None) -> str:
    if value is None:
        return "-"
    spread = "" if value.half_width is None else f" ±{value.half_width:.2f}"
    return f"{value.mean:.2f}{spread} ({value.count})"


def _row(video: VideoScores) -> dict[str, Any]:
    return {**_plain(asdict(video)), "first_section_right": video.first_section_right}


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
