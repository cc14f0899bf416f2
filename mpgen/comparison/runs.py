"""What a run's folder says of the run: its config, its curves, and the scores of videos that were made in it."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mpgen.configs import flatten, read_config
from mpgen.errors import UserError

SETUP = ("run", "ckpt_path", "accept_changes", "print_summary", "trainer.default_root_dir")  # how, not what


@dataclass(frozen=True)
class Curve:
    """A logged number over the steps.

    Args:
        steps: rising.
        values: at these steps.
    """

    steps: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]

    @property
    def late(self) -> float:
        """The mean over the last quarter of the steps."""
        return float(self.values[self.steps >= 0.75 * self.steps[-1]].mean())


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder shows it.

    Args:
        folder: the run's.
        config: every single value by its full key, as text.
        curves: by name.
        scores: by the place of their file and their name: the mean, and half of its 95 % interval if known.
    """

    folder: Path
    config: dict[str, str]
    curves: dict[str, Curve]
    scores: dict[str, tuple[float, float | None]]


def read_run(folder: Path) -> RunRecord:
    """
    Raises:
        UserError: it is no folder of a run, or a file in it cannot be read.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: has no config.yaml; wanted the folder of a run of mpgen fit")
    config = {
        key: "null" if value is None else str(value)
        for key, value in flatten(read_config(folder / "config.yaml"))
        if not isinstance(value, (dict, list)) and key not in SETUP
    }
    scores = {name: value for file in sorted(folder.rglob("scores.json")) for name, value in _scores(folder, file)}
    return RunRecord(folder, config, _curves(folder), scores)


def _curves(folder: Path) -> dict[str, Curve]:
    """Of all starts of the run; where two logged one step, the later one counts."""
    logged: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("csv/start*/metrics.csv"), key=lambda path: int(path.parent.name[5:] or 0)):
        with file.open(encoding="utf-8", newline="") as opened:
            for row in csv.DictReader(opened):
                for name, text in row.items():
                    if name not in ("step", "epoch") and text:
                        logged.setdefault(name, {})[int(row["step"])] = float(text)
    return {
        name: Curve(np.array(steps), np.array([points[step] for step in steps]))
        for name, points in sorted(logged.items())
        if (steps := sorted(step for step, value in points.items() if math.isfinite(value)))
    }


def _scores(folder: Path, file: Path) -> Iterator[tuple[str, tuple[float, float | None]]]:
    """Those of the world's truth, and the means over all lengths of `mpgen evaluate`."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        place = "" if file.parent == folder else f"{file.parent.relative_to(folder)}: "
        worlds = record.get("world") or ({"": record} if "summary" in record else {})
        for method, world in worlds.items():
            for name, families in world["summary"]["generated"].items():
                yield from _score(f"{place}{method}{' ' if method else ''}{name}", families.get("all"))
        for group in record.get("evaluation", {}).get("groups", []):
            if group["length"] == "all":
                for kind, prefix in (("scores", ""), ("signed_drift", "drift of ")):
                    for name, cell in group[kind].items():
                        yield from _score(f"{place}{group['method']} {prefix}{name}", cell)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: wanted what mpgen evaluate wrote: {type(error).__name__} {error}") from error


def _score(name: str, cell: dict[str, Any] | None) -> Iterator[tuple[str, tuple[float, float | None]]]:
    if cell is not None and cell["mean"] is not None:
        interval = cell.get("low") is not None and cell.get("high") is not None
        yield name, (cell["mean"], (cell["high"] - cell["low"]) / 2 if interval else cell.get("half_width"))
