"""`mpgen evaluate --world` for one method or several: the world's own scores of each, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpgen.errors import UserError
from mpgen.evaluation.suite import Video
from mpgen.world.scoring.evaluate import score_world

_GENERATED = "generated"


@dataclass(frozen=True)
class WorldScores:
    """What the world's truth says of the videos.

    Args:
        record: for scores.json: of one method as it is, of several by method under `world`.
        table: a header and a row for each score: methods, then the references; mean, half of its 95 % interval, count.
        pictures: PNG files for the report, each with its heading.
    """

    record: dict[str, Any] = field(default_factory=dict)
    table: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[tuple[str, Path], ...] = ()


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
        return WorldScores(record, _table({method: record}), _pictures(output, ""))
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
        pictures += _pictures(place, f"{name}: ")
    if not records:
        raise UserError(f"--world {world}: no video of {', '.join(folders.values())} could be scored against it")
    return WorldScores({"world": records}, _table(records), tuple(pictures))


def _pictures(folder: Path, method: str) -> tuple[tuple[str, Path], ...]:
    titles = {"curves.png": "scores by section", "recall.png": "recall of what was hidden"}
    return tuple((f"World: {method}{title}", folder / name) for name, title in titles.items())


def _table(records: dict[str, dict[str, Any]]) -> tuple[tuple[str, ...], ...]:
    first = next(iter(records.values()))["summary"]
    columns = {method: record["summary"][_GENERATED] for method, record in records.items()}
    columns |= {who: summary for who, summary in first.items() if who != _GENERATED}
    names = list(dict.fromkeys(name for summary in columns.values() for name in summary))
    rows = [(name, *(_cell(summary.get(name, {}).get("all")) for summary in columns.values())) for name in names]
    return (("", *columns), *rows)


def _cell(estimate: dict[str, Any] | None) -> str:
    if estimate is None or estimate["mean"] is None:
        return "-"
    spread = "" if estimate["half_width"] is None else f" ±{estimate['half_width']:.2f}"
    return f"{estimate['mean']:.2f}{spread} ({estimate['count']})"
