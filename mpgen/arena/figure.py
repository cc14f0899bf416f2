"""The ranking as a picture: ratings with their intervals, and who beat whom."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpgen.arena.ranking import Rating

_MARKERS = "<d>"  # of lengths, from short to long


def plot(ratings: Sequence[Rating], by_length: dict[str, list[Rating]], wins: np.ndarray, path: Path) -> None:
    figure = Figure(figsize=(11, 1.6 + 0.55 * len(ratings)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    rows = np.arange(len(ratings))[::-1]
    for row, rating in zip(rows, ratings, strict=True):
        if rating.low is not None:
            left.plot([rating.low, rating.high], [row, row], color="tab:blue", lw=2, solid_capstyle="round")
        left.plot(rating.bradley_terry, row, "o", color="tab:blue", label="Bradley-Terry, 95 %" if row == 0 else None)
        left.errorbar(
            rating.elo_mean,
            row - 0.22,
            xerr=rating.elo_sd,
            fmt="s",
            color="tab:gray",
            ms=4,
            lw=1,
            label="ELO-K32 over vote orders, ±1 SD" if row == 0 else None,
        )
    if len(by_length) > 1:
        for marker, (label, some) in zip(cycle(_MARKERS), by_length.items(), strict=False):
            of = {rating.method: rating.bradley_terry for rating in some}
            points = [of.get(rating.method, np.nan) for rating in ratings]
            left.plot(
                points,
                rows + 0.22,
                marker,
                ms=4,
                color="tab:orange",
                alpha=0.7,
                label=f"Bradley-Terry, {label}",
            )
    left.set_yticks(rows, [rating.method for rating in ratings])
    left.set_ylim(-0.6, len(ratings) - 0.4)
    left.set_xlabel("rating")
    left.grid(axis="x", alpha=0.3)
    left.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    met = wins + wins.T
    shares = np.divide(wins, met, out=np.full(wins.shape, np.nan), where=met > 0)
    colours = matplotlib.colormaps["RdBu"]
    right.imshow(shares, vmin=0, vmax=1, cmap=colours, aspect="auto")
    for i, j in zip(*np.nonzero(met), strict=True):
        text = f"{shares[i, j]:.0%}\nof {met[i, j]:.0f}"
        right.text(j, i, text, ha="center", va="center", fontsize=8, color=readable_on(colours(shares[i, j])))
    right.set_xticks(range(len(ratings)), [rating.method for rating in ratings], rotation=20, ha="right")
    right.set_yticks(range(len(ratings)), [rating.method for rating in ratings])
    right.set_title("row beat column", fontsize=10)
    figure.savefig(path, dpi=130, format="png")


def readable_on(background: tuple[float, ...]) -> str:
    """Black or white, whichever has the higher contrast (WCAG) on a colour in [0, 1]."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"
