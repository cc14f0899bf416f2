"""What the answers in a folder say: one table a question, each number with its interval."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpgen.atomic import replacing
from mpgen.lab.asking import AS_IT_IS, CONTROLLED, CONTROLS
from mpgen.lab.questions import KINDS
from mpgen.lab.rows import all_rows
from mpgen.lab.statistics import Answers, difference, interval

Result = Mapping[str, Any]  # what `mpgen.lab.ask` wrote of a row and a seed
OWN_ROW = "memorypack"  # which the others are compared with
END_SECTIONS = 4  # of thirty: the first and the last four seconds
HIDDEN_BINS = ((15, 25), (25, 40), (40, 60))  # seconds, of the long questions


def read_results(folder: Path) -> dict[str, dict[int, Result]]:
    """Answers by row and seed, the paper's rows first."""
    found: dict[str, dict[int, Result]] = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found[result["row"]][result["seed"]] = result
    order = [*all_rows(), *found]
    return {row: dict(sorted(found[row].items())) for row in dict.fromkeys(order) if row in found}


def recalled(
    seeds: Mapping[int, Result],
    kind: str,
    control: str = AS_IT_IS,
    suits: Callable[[Mapping[str, Any]], bool] = lambda answer: True,
) -> Answers:
    """Whether colour and shape were right, of each question of a kind."""
    return {
        seed: {
            answer["name"]: float(answer["answer"] == answer["truth"])
            for answer in result["recall"]
            if answer["kind"] == kind and answer["control"] == control and suits(answer)
        }
        for seed, result in seeds.items()
    }


def chance(results: Mapping[str, Mapping[int, Result]], kind: str) -> float:
    """What guessing gets of a kind."""
    result = next(iter(next(iter(results.values())).values()))
    return float(np.mean([1 / a["choices"] for a in result["recall"] if a["kind"] == kind]))


def of_videos(seeds: Mapping[int, Result], kind: str, value: Callable[[Mapping[str, Any]], float | None]) -> Answers:
    """A number of each own video."""
    return {
        seed: {
            video["name"]: number for video in result["videos"].get(kind, ()) if (number := value(video)) is not None
        }
        for seed, result in seeds.items()
    }


def _ends(name: str, last: bool) -> Callable[[Mapping[str, Any]], float | None]:
    def mean(video: Mapping[str, Any]) -> float | None:
        part = video[name][-END_SECTIONS:] if last else video[name][:END_SECTIONS]
        numbers = [value for value in part if value is not None]
        return float(np.mean(numbers)) if numbers else None

    return mean


def _change(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    def change(video: Mapping[str, Any]) -> float | None:
        first, last = _ends(name, False)(video), _ends(name, True)(video)
        return None if first is None or last is None else last - first

    return change


def _share(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda video: float(np.mean(video[name])) if video[name] else None


# Column -> own videos of which kind, and the number of one.
OWN: dict[str, tuple[str, Callable[[Mapping[str, Any]], float | None]]] = {
    "returned, right": ("returns", _share("returned_right")),
    "found, first 4 s": ("long", _ends("found", False)),
    "found, last 4 s": ("long", _ends("found", True)),
    "change": ("long", _change("found")),
    "moves as told": ("long", lambda video: video["moved"]),
    "colour and shape, last 4 s": ("long", _ends("identified", True)),
    "background, first 4 s (dB)": ("long", _ends("background", False)),
    "background, change (dB)": ("long", _change("background")),
}


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join('' if cell is None else str(cell) for cell in line)} |" for line in lines)


def _recall(results: Mapping[str, Mapping[int, Result]]) -> Iterator[list[object]]:
    for row, seeds in results.items():
        first = next(iter(seeds.values()))
        yield [row, len(seeds), first["context_tokens"], *(interval(recalled(seeds, kind)) for kind in KINDS)]
    yield ["*chance*", "", "", *(f"{chance(results, kind):.2f}" for kind in KINDS)]


def _videos(results: Mapping[str, Mapping[int, Result]], floors: Mapping[str, Any]) -> Iterator[list[object]]:
    for row, seeds in results.items():
        yield [row, len(seeds), *(interval(of_videos(seeds, kind, value)) for kind, value in OWN.values())]
    for who, videos in floors.items():
        seeds = {0: {"videos": videos}}
        cells = [interval(of_videos(seeds, kind, value)) for kind, value in OWN.values()]
        yield [f"*{who}*", "", *(None if cell is None else f"{cell.mean:.2f}" for cell in cells)]


def _controls(results: Mapping[str, Mapping[int, Result]]) -> Iterator[list[object]]:
    for row, seeds in results.items():
        if any(interval(recalled(seeds, CONTROLLED, control)) for control in list(CONTROLS)[1:]):
            yield [row, *(interval(recalled(seeds, CONTROLLED, control)) for control in CONTROLS)]


def _differences(results: Mapping[str, Mapping[int, Result]]) -> Iterator[list[object]]:
    own = results.get(OWN_ROW, {})
    for row, seeds in results.items():
        if row != OWN_ROW and own:
            recall = [difference(recalled(seeds, kind), recalled(own, kind)) for kind in KINDS]
            videos = (
                difference(of_videos(seeds, *OWN[name]), of_videos(own, *OWN[name]))
                for name in ("found, last 4 s", "change", "background, change (dB)")
            )
            yield [row, *recall, *videos]


def _by_time(results: Mapping[str, Mapping[int, Result]]) -> Iterator[list[object]]:
    for row, seeds in results.items():
        yield [
            row,
            interval(recalled(seeds, CONTROLLED)),
            *(
                interval(
                    recalled(seeds, "same place, long", suits=lambda a, b=bounds: b[0] <= a["hidden_seconds"] < b[1])
                )
                for bounds in HIDDEN_BINS
            ),
            *(interval(recalled(seeds, CONTROLLED, suits=lambda a, n=n: a["objects"] == n)) for n in range(1, 5)),
        ]


def _cost(results: Mapping[str, Mapping[int, Result]]) -> Iterator[list[object]]:
    for row, seeds in results.items():
        first = next(iter(seeds.values()))
        yield [
            row,
            f"{first['parameters']:,}",
            f"{first['memory_parameters']:,}",
            f"{np.mean([r['training_seconds'] for r in seeds.values()]) / 60:.1f}",
            f"{np.mean([r['asking_seconds'] for r in seeds.values()]) / 60:.1f}",
        ]


def tables(results: Mapping[str, Mapping[int, Result]], floors: Mapping[str, Any]) -> str:
    """All tables as Markdown; empty without a result."""
    if not results:
        return "no row has been asked yet"
    titled = {
        "Recall of colour and shape": (["row", "seeds", "context tokens", *KINDS], _recall(results)),
        "By seconds hidden, and by the number of objects (hidden 3.4 to 7 s)": (
            ["row", "3.4 to 7 s", *(f"{a} to {b} s" for a, b in HIDDEN_BINS), *(f"{n} objects" for n in range(1, 5))],
            _by_time(results),
        ),
        f"Controls, {CONTROLLED}": (["row", *CONTROLS], _controls(results)),
        "Own videos: after a curtain closed, and thirty seconds from a start image": (
            ["row", "seeds", *OWN],
            _videos(results, floors),
        ),
        f"Differences to {OWN_ROW}, of the same videos and seeds": (
            ["row", *KINDS, "found, last 4 s", "change", "background, change (dB)"],
            _differences(results),
        ),
        "Cost": (["row", "parameters", "of the memory", "training, min", "asking, min"], _cost(results)),
    }
    written = [f"**{title}**\n\n{_table(header, list(rows))}" for title, (header, rows) in titled.items()]
    return "\n\n".join([*written, _where(results)])


def _where(results: Mapping[str, Mapping[int, Result]]) -> str:
    """Where the results are from; said loudly where they are not all of one base."""
    every = [result for seeds in results.values() for result in seeds.values()]
    commits = sorted({result["commit"] for result in every})
    bases = sorted({f"{result['base']} ({result['base_sha256']})" for result in every})
    said = f"Base {', '.join(bases)}; commits {', '.join(commits)}; mean [95 % interval over videos and seeds]."
    return f"{'**Results of different bases, not to be compared.** ' if len(bases) > 1 else ''}{said}"


def write_tables(folder: Path, output: Path) -> str:
    """table.md from all results in `folder`; what it says."""
    floors_file = folder.parent / "floors.json"
    floors = json.loads(floors_file.read_text(encoding="utf-8")) if floors_file.exists() else {}
    text = tables(read_results(folder), floors)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "table.md") as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")
    return text
