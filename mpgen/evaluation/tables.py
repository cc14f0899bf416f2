"""Results as text: a table for the terminal, a JSON and a CSV for programs."""

import csv
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpgen.atomic import replacing
from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.results import VideoResult
from mpgen.evaluation.suite import Skipped
from mpgen.evaluation.summary import Cell, Group, shown
from mpgen.text_table import aligned


@dataclass(frozen=True)
class Evaluation:
    """A whole run, as the report shows it.

    Args:
        settings: what was asked for, by name.
        convention: of drift, in words.
        metrics: the scores that could be had.
        absent: the metrics that could not, and why.
        titles: of all metrics that were asked for, by name.
        weights: what each network's weights were: a checksum, or that they are random.
        groups: by method and length.
        results: every video, worst first.
        skipped: what could not be scored.
        warnings: what a reader must know.
    """

    settings: dict[str, Any]
    convention: str
    metrics: tuple[type[VideoMetric], ...]
    absent: dict[str, str]
    titles: dict[str, str]
    weights: dict[str, str]
    groups: tuple[Group, ...]
    results: tuple[VideoResult, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]


def terminal_table(evaluation: Evaluation) -> str:
    """A row for each score and each Δ, a column for each group; ± is half the 95 % interval over videos."""
    groups = shown(evaluation.groups)
    rows = [["", *(group.title for group in groups)], ["videos", *(str(group.videos) for group in groups)]]
    for metric in evaluation.metrics:
        rows.append([metric.title, *(_cell(group.scores.get(metric.name), metric.scale) for group in groups)])
    for metric in evaluation.metrics:
        if metric.drift_frames and metric.headline:
            cells = [_cell(group.drifts.get(metric.name), metric.scale) for group in groups]
            rows.append([f"|Δ| {metric.title}", *cells])
    return aligned(rows)


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """Scores in [0, 1] as they are; numbers that do not exist are null."""
    return _plain(
        {
            "settings": evaluation.settings,
            "drift_convention": evaluation.convention,
            "weights": evaluation.weights,
            "absent": evaluation.absent,
            "warnings": evaluation.warnings,
            "groups": [
                {
                    "method": group.method,
                    "length": group.length,
                    "videos": group.videos,
                    "scores": _cells(group.scores),
                    "drift": _cells(group.drifts),
                    "signed_drift": _cells(group.signed_drifts),
                    "slope_per_minute": _cells(group.slopes),
                }
                for group in evaluation.groups
            ],
            "videos": [result.record() for result in evaluation.results],
            "skipped": [asdict(skipped) for skipped in evaluation.skipped],
        }
    )


def write_json(record: dict[str, Any], path: Path) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """A line a video, worst first: scores, signed drifts (`delta_...`: end minus start), slopes, and what is wrong."""
    names = [metric.name for metric in evaluation.metrics]
    drifting = [metric.name for metric in evaluation.metrics if metric.drift_frames]
    plain = ["name", "method", "length", "seconds", "num_frames", "width_px", "height_px"]
    header = [*plain, *names, *(f"delta_{name}" for name in drifting), *(f"slope_{name}" for name in drifting)]
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "note"])
        for result in evaluation.results:
            drifts = [result.drifts.get(name) for name in drifting]
            writer.writerow(
                [
                    *(getattr(result, key) if key != "seconds" else f"{result.seconds:.3f}" for key in plain),
                    *(_number(result.scores[name].value if name in result.scores else None) for name in names),
                    *(_number(drift.delta if drift else None) for drift in drifts),
                    *(_number(drift.slope_per_minute if drift else None) for drift in drifts),
                    result.faults,
                ]
            )


def _cell(cell: Cell | None, scale: float) -> str:
    if cell is None:
        return "-"
    text = f"{scale * cell.mean:.2f}"
    return text if cell.low is None else f"{text} ±{scale * (cell.high - cell.low) / 2:.2f}"


def _cells(cells: dict[str, Cell]) -> dict[str, Any]:
    return {name: asdict(cell) for name, cell in cells.items()}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _plain(value: Any) -> Any:
    """Only what JSON knows."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
