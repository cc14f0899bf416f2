"""`mpgen evaluate --world` for one method or several: the world's own scores of each, side by side."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from mpgen.errors import UserError
from mpgen.evaluation.suite import Video
from mpgen.evaluation.summary import Cell, mean_of
from mpgen.world.scoring.evaluate import score_world

_GENERATED = "generated"


@dataclass(frozen=True)
class WorldScores:
    """What the world's truth says of the videos.

    Args:
        record: for scores.json: of one method as it is, of several by method under `world`, and their paired
            differences under `world_differences`.
        table: a header and a row for each score: methods, then the references; mean, half of its 95 % interval, count.
        differences: a header and a row for each score: second method minus first on the videos that both have, with the
            95 % interval over videos and their count; empty for one method.
        pictures: PNG files for the report, each with its heading.
    """

    record: dict[str, Any] = field(default_factory=dict)
    table: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[tuple[str, Path], ...] = ()
    differences: tuple[tuple[str, ...], ...] = ()


NO_WORLD = WorldScores()


def score_methods(
    world: Path, videos: Sequence[Video], output: Path, section_frames: int, references: bool
) -> WorldScores:
    """Each folder of videos is a method; the references are scored with the first alone, as they are the same for all.

    Raises:
        UserError: no method could be scored.
    """
    folders = {video.path.parent: video.method for video in videos}
    if len(folders) == 1:
        ((folder, method),) = folders.items()
        record = score_world(world, folder, output, section_frames, references)
        return WorldScores(record, _table({method: record}), _pictures(output, "", record))
    records: dict[str, dict[str, Any]] = {}
    pictures: list[tuple[str, Path]] = []
    for folder, method in folders.items():
        name = method if method not in records else folder.name
        print(f"{name}:")
        try:
            place = output / "world" / name
            records[name] = score_world(world, folder, place, section_frames, references and not records)
        except UserError as error:
            print(f"no world scores of {name}: {error}")
            continue
        pictures += _pictures(place, f"{name}: ", records[name])
    if not records:
        raise UserError(f"--world {world}: no video of {', '.join(folders.values())} could be scored against it")
    found = _differences(records)
    plain = [
        {"first": first, "second": second, "scores": {name: asdict(cell) for name, cell in cells.items()}}
        for (first, second), cells in found.items()
    ]
    record = {"world": records, "world_differences": plain}
    return WorldScores(record, _table(records), tuple(pictures), _difference_table(found))


def _pictures(folder: Path, method: str, record: dict[str, Any]) -> tuple[tuple[str, Path], ...]:
    """Recall has one where something was hidden and came back."""
    titles = {"curves.png": "scores by section"}
    if any(record["recall"].values()):
        titles["recall.png"] = "recall of what was hidden"
    return tuple((f"World: {method}{title}", folder / name) for name, title in titles.items())


def _table(records: dict[str, dict[str, Any]]) -> tuple[tuple[str, ...], ...]:
    first = next(iter(records.values()))["summary"]
    columns = {method: record["summary"][_GENERATED] for method, record in records.items()}
    columns |= {who: summary for who, summary in first.items() if who != _GENERATED}
    names = list(dict.fromkeys(name for summary in columns.values() for name in summary))
    rows = [(name, *(_cell(summary.get(name, {}).get("all")) for summary in columns.values())) for name in names]
    return (("", *columns), *rows)


def _differences(records: dict[str, dict[str, Any]]) -> dict[tuple[str, str], dict[str, Cell]]:
    """Of every two methods, by score: the second minus the first, within the videos of one name."""
    means = {method: {one["name"]: one["means"] for one in record["videos"]} for method, record in records.items()}
    found = {}
    for first, second in combinations(sorted(means), 2):
        pairs = [
            (means[first][name], means[second][name]) for name in sorted(means[first].keys() & means[second].keys())
        ]
        names = dict.fromkeys(name for before, after in pairs for name in before if name in after)
        cells = {name: mean_of([b[name] - a[name] for a, b in pairs if name in a and name in b]) for name in names}
        if cells:
            found[first, second] = {name: cell for name, cell in cells.items() if cell is not None}
    return found


def _difference_table(found: dict[tuple[str, str], dict[str, Cell]]) -> tuple[tuple[str, ...], ...]:
    names = dict.fromkeys(name for cells in found.values() for name in cells)
    header = ("", *(f"{second} minus {first}" for first, second in found))
    return (
        (header, *((name, *(_signed(cells.get(name)) for cells in found.values())) for name in names)) if found else ()
    )


def _signed(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    interval = "" if cell.low is None else f" [{cell.low:+.2f}, {cell.high:+.2f}]"
    return f"{cell.mean:+.2f}{interval} ({cell.count})"


def _cell(estimate: dict[str, Any] | None) -> str:
    if estimate is None or estimate["mean"] is None:
        return "-"
    spread = "" if estimate["half_width"] is None else f" ±{estimate['half_width']:.2f}"
    return f"{estimate['mean']:.2f}{spread} ({estimate['count']})"
