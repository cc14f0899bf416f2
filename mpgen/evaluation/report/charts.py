"""Scores over time, one panel each, as one SVG."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.summary import ALL, Group

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
_DASHES = ("-", "--", ":", "-.")
_COLUMNS, _PANEL_INCHES, _LEGEND_INCHES = 3, (4.1, 2.3), 0.25


def draw(metrics: Sequence[type[VideoMetric]], groups: Sequence[Group]) -> bytes | None:
    """A panel for each metric that any group has a curve of, a line for each method and length; None without any."""
    groups = [group for group in groups if group.length != ALL]
    shown = [metric for metric in metrics if any(metric.name in group.curves for group in groups)]
    if not shown:
        return None
    rows, legend_rows = -(-len(shown) // _COLUMNS), -(-len(groups) // _COLUMNS)
    height = rows * _PANEL_INCHES[1] + legend_rows * _LEGEND_INCHES + 0.2
    figure = Figure((_COLUMNS * _PANEL_INCHES[0], height), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for panel, metric in zip(panels[: len(shown)], shown, strict=True):
        _draw(panel, metric, groups)
    for panel in panels[len(shown) :]:
        panel.remove()
    lines = {line.get_label(): line for panel in panels[: len(shown)] for line in panel.get_lines()}
    figure.legend(lines.values(), lines, loc="outside upper left", ncols=_COLUMNS, frameon=False, fontsize=9)
    image = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mpgen"}):
        figure.savefig(image, format="svg", metadata={"Date": None})
    return image.getvalue()


def _draw(panel: Axes, metric: type[VideoMetric], groups: Sequence[Group]) -> None:
    methods, lengths = (
        list(dict.fromkeys(names)) for names in zip(*((g.method, g.length) for g in groups), strict=True)
    )
    for group in groups:
        if metric.name not in group.curves:
            continue
        curve = group.curves[metric.name]
        means, spread = metric.scale * curve.means, metric.scale * curve.spread
        colour = COLOURS[methods.index(group.method) % len(COLOURS)]
        dash = _DASHES[lengths.index(group.length) % len(_DASHES)]
        panel.plot(curve.seconds, means, dash, color=colour, lw=1.4, label=f"{group.title} ({group.videos})")
        panel.fill_between(curve.seconds, means - spread, means + spread, color=colour, alpha=0.13, lw=0)
    panel.set_title(metric.curve_title or metric.title, fontsize=10, loc="left")
    panel.tick_params(labelsize=8)
    panel.grid(axis="y", alpha=0.3)
