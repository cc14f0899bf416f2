"""World scores as curves: by section, over time, and recall against how long something was hidden."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpgen.atomic import replacing
from mpgen.world.scenes import PALETTE, SHAPES
from mpgen.world.scoring.aggregate import Estimate, background_curve, recall_bins, section_curves
from mpgen.world.scoring.tables import COPY, GENERATED, SHUFFLED, TRUTH
from mpgen.world.scoring.video import VideoScores

_STYLES = {
    GENERATED: ("tab:blue", "o-"),
    TRUTH: ("tab:green", "--"),
    COPY: ("tab:gray", ":"),
    SHUFFLED: ("tab:orange", "-."),
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
    if any(map(recall_bins, scores.values())):
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
