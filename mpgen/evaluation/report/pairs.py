"""The part of the page that compares methods on the same prompts: players side by side, and paired differences."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.pairs import Difference, SamePrompt
from mpgen.evaluation.summary import Cell

ABSENT = "\N{EN DASH}"


@dataclass(frozen=True)
class Player:
    """A video that plays where it lies: its method and its address beside the page."""

    method: str
    address: str


@dataclass(frozen=True)
class PromptRow:
    """A name, its prompt, and a player for each method."""

    name: str
    prompt: str
    players: tuple[Player, ...]


def prompt_row(name: str, prompt: SamePrompt, page: Path) -> PromptRow:
    """The videos of one name, methods in alphabetical order."""
    shown = [prompt[method] for method in sorted(prompt)]
    text = next((result.video.prompt for result in shown if result.video.prompt), "")
    return PromptRow(name, text, tuple(Player(one.method, address(one.video.path, page)) for one in shown))


def address(video: Path, page: Path) -> str:
    """Relative to the page's folder, so that both can be moved together."""
    return quote(os.fsencode(os.path.relpath(video.resolve(), page.resolve().parent)))


def difference_table(found: Sequence[Difference], metrics: Sequence[type[VideoMetric]]) -> list[tuple[str, ...]]:
    """A header, and rows of scores and |Δ|: mean difference, its interval, and how many videos; empty without any."""
    rows = []
    for metric in metrics:
        scores = [difference.scores.get(metric.name) for difference in found]
        drifts = [difference.drifts.get(metric.name) for difference in found]
        for title, cells in ((metric.title, scores), (f"|Δ| {metric.title}", drifts)):
            if any(cell is not None for cell in cells):
                rows.append((title, *(_text(cell, metric.scale) for cell in cells)))
    return [("", *(f"{one.second} minus {one.first}" for one in found)), *rows] if rows else []


def _text(cell: Cell | None, scale: float) -> str:
    if cell is None:
        return ABSENT
    interval = "" if cell.low is None else f" [{scale * cell.low:+.2f}, {scale * cell.high:+.2f}]"
    return f"{scale * cell.mean:+.2f}{interval} ({cell.count})"
