"""Fills the page's template: what is shown where; how it looks is in `page.html.j2`."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from mpgen import __version__
from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.metrics import METRICS
from mpgen.evaluation.pairs import differences, same_prompts
from mpgen.evaluation.proxies import Proxy
from mpgen.evaluation.report import paper
from mpgen.evaluation.report.charts import draw
from mpgen.evaluation.report.pairs import ABSENT, address, difference_table, prompt_row
from mpgen.evaluation.results import VideoResult
from mpgen.evaluation.summary import ALL, Cell, Group, shown
from mpgen.evaluation.tables import Evaluation
from mpgen.evaluation.world import NO_WORLD, WorldScores
from mpgen.html import write_html

_GAP_PX = 2
_JPEG_QUALITY = 72


@dataclass(frozen=True)
class Shown:
    """A number as it stands in a table: its text, what it is sorted by, and what the pointer tells."""

    text: str
    order: float | None = None
    hint: str = ""


@dataclass(frozen=True)
class TableRow:
    """A name, how many videos, and numbers; `kind` is a class of the style sheet."""

    name: str
    videos: str
    cells: tuple[Shown, ...]
    kind: str


@dataclass(frozen=True)
class VideoRow:
    """One video: its rank (1 is the worst), its address beside the page, its pictures, and two lines a number."""

    rank: int
    result: VideoResult
    address: str
    picture: str
    times: tuple[str, ...]
    cells: tuple[tuple[Shown, Shown], ...]


def write_page(evaluation: Evaluation, path: Path, world: WorldScores = NO_WORLD) -> None:
    """One file, whole or not at all."""
    groups = shown(evaluation.groups)
    described = [metric for metric in evaluation.metrics if issubclass(metric, Proxy)]
    prompts = same_prompts(evaluation.results)
    chart = draw(evaluation.metrics, evaluation.groups)
    write_html(
        path,
        "mpgen.evaluation.report",
        "page.html.j2",
        evaluation=evaluation,
        version=__version__,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        table_columns=_paper_columns(),
        paper_rows=[_paper_row(row) for row in paper.TABLE_1],
        our_rows=[_group_row(group, _paper_cells(group), groups) for group in groups],
        source=paper.SOURCE,
        proxy_columns=described,
        proxy_rows=[_group_row(group, _proxy_cells(group, described), groups) for group in groups],
        chart=None if chart is None else _encoded(chart, "svg+xml"),
        videos=[_video_row(*numbered, evaluation.metrics, path) for numbered in enumerate(evaluation.results, 1)],
        prompts=[prompt_row(name, prompt, path) for name, prompt in prompts.items()],
        differences=difference_table(differences(list(prompts.values()), evaluation.metrics), evaluation.metrics),
        world_table=world.table,
        world_differences=world.differences,
        pictures=[(title, _encoded(picture.read_bytes(), "png")) for title, picture in world.pictures],
        absent=[(evaluation.titles[name], reason) for name, reason in evaluation.absent.items()],
    )


def _paper_columns() -> list[str]:
    return [METRICS[name].title for name in paper.COLUMNS] + [f"|Δ| {METRICS[name].title}" for name in paper.DELTAS]


def _paper_row(row: paper.PaperRow) -> TableRow:
    numbers = [*row.scores, *row.deltas]
    return TableRow(row.method, "160", tuple(Shown(f"{number:.2f}", number) for number in numbers), "paper")


def _paper_cells(group: Group) -> list[Shown]:
    cells = [_shown(group.scores.get(name), METRICS[name]) for name in paper.COLUMNS]
    cells += [_shown(group.drifts.get(name), METRICS[name]) for name in paper.DELTAS]
    return cells


def _proxy_cells(group: Group, metrics: Sequence[type[VideoMetric]]) -> list[Shown]:
    cells = [_shown(group.scores.get(metric.name), metric) for metric in metrics]
    cells += [_shown(group.signed_drifts.get(metric.name), metric, "+") for metric in metrics]
    return cells


def _group_row(group: Group, cells: list[Shown], groups: Sequence[Group]) -> TableRow:
    name = group.method if group.length == ALL else f"{group.method}, {group.length}"
    is_part = group.length != ALL and any(other.method == group.method and other.length == ALL for other in groups)
    return TableRow(name, str(group.videos), tuple(cells), "length" if is_part else "ours")


def _shown(cell: Cell | None, metric: type[VideoMetric], sign: str = "") -> Shown:
    if cell is None:
        return Shown(ABSENT)
    scale = metric.scale
    hint = f"over {cell.count} videos"
    if cell.low is not None:
        hint = f"95 % interval {scale * cell.low:.2f} to {scale * cell.high:.2f} {hint}"
    return Shown(f"{scale * cell.mean:{sign}.2f}", scale * cell.mean, hint)


def _video_row(rank: int, result: VideoResult, metrics: Sequence[type[VideoMetric]], page: Path) -> VideoRow:
    times = tuple(f"{frame / result.fps:.1f} s" for frame in result.strip_frames)
    cells = tuple(_video_cell(result, metric) for metric in metrics)
    return VideoRow(rank, result, address(result.video.path, page), _strip(result), times, cells)


def _video_cell(result: VideoResult, metric: type[VideoMetric]) -> tuple[Shown, Shown]:
    if metric.name not in result.scores:
        return Shown(ABSENT), Shown("")
    value, found = result.scores[metric.name].value, result.drifts.get(metric.name)
    score = Shown(f"{metric.scale * value:.2f}", value)
    if found is None:
        return score, Shown("")
    slope = "" if found.slope_per_minute is None else f"; {metric.scale * found.slope_per_minute:+.2f} a minute"
    hint = (
        f"from {metric.scale * found.start:.2f} to {metric.scale * found.end:.2f}{slope}; "
        f"worst second {metric.scale * found.worst:.2f} at {found.worst_seconds:.1f} s"
    )
    return score, Shown(f"{metric.scale * found.delta:+.2f}", abs(found.delta), hint)


def _strip(result: VideoResult) -> str:
    """The pictures side by side as a JPEG inside the page; empty if there are none."""
    if not len(result.strip):
        return ""
    gap = np.full((result.strip.shape[1], _GAP_PX, 3), 255, np.uint8)
    row = [part for picture in result.strip for part in (picture, gap)][:-1]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(row, 1)).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return _encoded(buffer.getvalue(), "jpeg")


def _encoded(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
