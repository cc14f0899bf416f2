"""A comparison as one HTML page that needs no other file: tables, then curves."""

import io
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Num
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mpgen.comparison.runs import RunRecord
from mpgen.comparison.tables import FIRST, config_rows, curve_rows, score_rows
from mpgen.html import write_html

COLOURS = ("#0072b2", "#d55e00")  # Okabe and Ito's, which colour-blind readers can tell apart
COLUMNS, PANEL_INCHES = 3, (4.1, 2.3)
POINTS = 100  # of a curve; each is a mean where more were logged


def write_page(a: RunRecord, b: RunRecord, path: Path) -> None:
    """One file, whole or not at all."""
    write_html(
        path,
        "mpgen.comparison",
        "page.html.j2",
        names=(str(a.folder), str(b.folder)),
        chart=_chart(a, b),
        tables=(
            ("Configs differ in", False, config_rows(a, b)),
            ("Scores, mean ± half of the 95 % interval", True, score_rows(a, b)),
            ("Logged, mean of the last quarter of the steps", True, curve_rows(a, b)),
        ),
    )


def _chart(a: RunRecord, b: RunRecord) -> str:
    """A panel for each number that either logged, as SVG; empty if there is none."""
    names = [name for name in dict.fromkeys((*FIRST, *a.curves, *b.curves)) if name in a.curves or name in b.curves]
    if not names:
        return ""
    rows = -(-len(names) // COLUMNS)
    figure = Figure((COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1]), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for panel, name in zip(panels[: len(names)], names, strict=True):
        for run, colour in zip((a, b), COLOURS, strict=True):
            if name in run.curves:
                curve = run.curves[name]
                steps, values = _means(curve.steps), _means(curve.values)
                panel.plot(steps, values, "-" if len(steps) > 1 else ".", color=colour, lw=1.4)
        panel.set_title(name, fontsize=10, loc="left")
        panel.tick_params(labelsize=8)
        panel.grid(axis="y", alpha=0.3)
    for panel in panels[len(names) :]:
        panel.remove()
    image = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mpgen"}):
        figure.savefig(image, format="svg", metadata={"Date": None})
    return image.getvalue()[image.getvalue().index("<svg") :]


def _means(numbers: Num[np.ndarray, " n"]) -> list[float]:
    """At most `POINTS` means over equally many neighbours."""
    return [float(part.mean()) for part in np.array_split(numbers, min(POINTS, len(numbers)))]
