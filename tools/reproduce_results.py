"""What `reproduce.py` has made, gathered, tabulated and drawn."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpgen.atomic import replacing
from mpgen.training.logs import SIGMA_EDGES
from mpgen.world.scoring.fidelity import drift

# FramePack's window in configs/ablation: 7 latent frames of 4 and, for the section that is being made, 3; 12 a second.
REACH_SECONDS = (28 + 12) / 12
HIDDEN_BINS = (1.5, 2.5, REACH_SECONDS, 4.2, 5.2, 14.0)
ASIDE_SECONDS = 0.3  # how far apart rows are drawn that stand at one place
FEWEST = 3  # answers in a bin, or it is not drawn
EXPECTED = {"expected": "expected identity", "expected_elsewhere": "expected identity, elsewhere"}  # file -> column
# In the world "hidden" six colours, for two objects have two of eight, and six shapes; in "elsewhere" 24 or 42.
CHOICES = 36
SUITES = ("return", "recall", "drift", "minutes")
CEILING, FLOORS = "truth", ("copy", "shuffled")
DRIFTS = {"objects drift": "share found", "background drift": "dB", "chart drift": "grey levels"}
TEACHER = "memorypack"  # teacher forcing, whose drift the others' is measured by
SPREAD = "Mean ± standard deviation over seeds; of one seed ± half of the 95 % interval over its videos."


@dataclass(frozen=True)
class Result:
    """One row with one seed.

    Args:
        row, seed: which.
        scores: by the name of a column; what was not measured is absent.
        half_widths: of the 95 % interval of a score over this seed's videos, where a score is a mean over them.
        recalls: (seconds hidden, identity right) of every hidden thing that was seen in true frames: by suite, of those
            that came back; and by file of `EXPECTED`, of what the model expects to see again.
        drifts: of each video, by the name of a column, where it has one.
        curve: background PSNR in dB of each generated frame, mean over the videos.
        fps: of that curve.
        found: the share of the objects that are found, of each generated section.
        loss_sigma: training loss by noise level, mean of the last quarter of the steps.
        references: the same scores of the true videos (ceiling) and of the floors.
        where: commit, machine, version of torch and day of the training.
    """

    row: str
    seed: int
    scores: dict[str, float]
    half_widths: dict[str, float]
    recalls: dict[str, tuple[tuple[float, bool], ...]]
    drifts: dict[str, dict[str, float]]
    curve: tuple[float, ...]
    fps: float
    found: tuple[float, ...]
    loss_sigma: dict[str, float]
    references: dict[str, dict[str, float]]
    where: dict[str, str]


# Column of the table -> suite, metric of the world's scores, decimals.
COLUMNS: Mapping[str, tuple[str, str, int]] = {
    "came back": ("recall", "recall: came back (seen in true frames)", 2),
    "identity, true history": ("return", "", 2),
    "identity, own history": ("recall", "", 2),
    "objects found": ("drift", "all sections: found", 2),
    "objects drift": ("drift", "objects found: drift", 2),
    "position error": ("drift", "all sections: position error (diameters)", 2),
    "landmarks found": ("drift", "revisit: landmarks found", 2),
    "place PSNR": ("drift", "revisit: PSNR to the first visit (dB)", 1),
    "background PSNR": ("drift", "background: PSNR (dB)", 1),
    "background drift": ("drift", "background: drift (dB)", 2),
    "chart drift": ("drift", "grey chart: drift (levels)", 1),
}
COST = "time a step"
FIRST_MINUTE, LAST_MINUTE = "place PSNR, first minute of five", "place PSNR, last minute"
EXTRA = {**dict.fromkeys(EXPECTED.values(), 2), "sharpness drift": 3, FIRST_MINUTE: 1, LAST_MINUTE: 1, COST: 2}


def gather(output: Path, rows: Sequence[str]) -> list[Result]:
    """All that has been scored, in the order of the rows."""
    results = []
    for row in rows:
        for folder in sorted((output / row).glob("seed*")):
            scored = {suite: _read(folder / f"{suite}_scores" / "scores.json") for suite in SUITES}
            if scored["drift"] is not None:
                seed = int(folder.name.removeprefix("seed"))
                results.append(_result(row, seed, scored, folder, output / "steps" / f"{row}_seed{seed}_fit.json"))
    return results


def _result(row: str, seed: int, scored: dict[str, Any], folder: Path, fit: Path) -> Result:
    scores, half_widths, references = {}, {}, defaultdict(dict)
    for column, (suite, metric, _) in COLUMNS.items():
        if scored[suite] is None:
            continue
        for who, summary in scored[suite]["summary"].items():
            value = summary.get(metric, {}).get("all")
            if value is not None:
                target = scores if who == "generated" else references[who]
                target[column] = value["mean"]
                if who == "generated" and value["half_width"] is not None:
                    half_widths[column] = value["half_width"]
    recalls = {}
    for column, (suite, metric, _) in COLUMNS.items():
        if metric or scored[suite] is None:
            continue
        recalls[suite] = _recalls(scored[suite])
        beyond = [right for seconds, right in recalls[suite] if seconds > REACH_SECONDS]
        if beyond:
            scores[column], half_widths[column] = _share(beyond)
        for who, bins in scored[suite]["recall"].items():
            far = [(b["identity"]["mean"], b["identity"]["count"]) for b in bins]
            if who != "generated" and far:
                means, counts = zip(*far, strict=True)
                references[who][column] = float(np.average(means, weights=counts))
    for name, column in EXPECTED.items():
        answers = [
            (a["hidden_seconds"], (a["colour"], a["shape"]) == (a["expected_colour"], a["expected_shape"]))
            for a in (_read(folder / f"{name}.json") or {"answers": []})["answers"]
        ]
        recalls[name] = tuple(answers)
        if far := [right for seconds, right in answers if seconds > REACH_SECONDS]:
            scores[column], half_widths[column] = _share(far)
    group = scored["drift"]["evaluation"]["groups"][0]
    if (sharpness := group["signed_drift"].get("sharpness")) is not None:
        scores["sharpness drift"] = sharpness["mean"]
    if scored["minutes"] is not None and (minutes := _minutes(scored["minutes"])) is not None:
        scores[FIRST_MINUTE], scores[LAST_MINUTE] = minutes
    losses, steps = _losses(folder / "run")
    spent = _read(fit) or {}
    if spent and steps:
        scores[COST] = spent["seconds"] / steps
    curve = [math.nan if value is None else value for value in scored["drift"]["background_psnr"]["generated"]]
    fps = float(scored["drift"]["videos"][0]["fps"])
    sections = scored["drift"]["sections"]["generated"]["found"]
    return Result(
        row=row,
        seed=seed,
        scores=scores,
        half_widths=half_widths,
        recalls=recalls,
        drifts=_drifts(scored["drift"]["videos"]),
        curve=tuple(curve),
        fps=fps,
        found=tuple(math.nan if value is None else value["mean"] for value in sections),
        loss_sigma=losses,
        references=dict(references),
        where=spent.get("where", {}),
    )


def _share(right: Sequence[bool]) -> tuple[float, float]:
    """The share that is right, and half of its 95 % interval (Wilson's, which is not empty where all are)."""
    n, p, z = len(right), float(np.mean(right)), 1.96
    return p, z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)


def _recalls(record: dict[str, Any]) -> tuple[tuple[float, bool], ...]:
    recalls = [recall for video in record["videos"] for recall in video["recalls"]]
    return tuple((r["hidden_seconds"], r["identity_right"]) for r in recalls if r["witnessed"] and r["came_back"])


def _drifts(videos: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    drifts: dict[str, dict[str, float]] = {column: {} for column in DRIFTS}
    for video in videos:
        found = [[thing["found"] for thing in section] for section in video["sections"]]
        objects = drift(np.array([np.mean(section) if section else math.nan for section in found]))
        for column, value in zip(DRIFTS, (objects, video["background_drift"], video["chart_drift"]), strict=True):
            if value is not None:
                drifts[column][video["name"]] = value
    return drifts


def _minutes(record: dict[str, Any]) -> tuple[float, float] | None:
    """How a place looks in the first and in the last minute: PSNR to the first visit, dB."""
    first, last = [], []
    for video in record["videos"]:
        for second, psnr in (video["revisits"] or {"returns": []})["returns"]:
            first += [psnr] if second < 60 else []
            last += [psnr] if second >= video["pixel_frames"] / video["fps"] - 60 else []
    return (float(np.mean(first)), float(np.mean(last))) if first and last else None


def _losses(run: Path) -> tuple[dict[str, float], int]:
    """Loss by noise level over the last quarter of the steps, and the number of steps."""
    lines: dict[int, dict[str, str]] = {}
    for path in sorted(run.glob("csv/start*/metrics.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            lines |= {int(line["step"]): line for line in csv.DictReader(file) if line.get("loss")}
    if not lines:
        return {}, 0
    steps = max(lines) + 1
    late = [line for step, line in lines.items() if step >= 0.75 * steps]
    edges = ("0.0", *map(str, SIGMA_EDGES), "1.0")
    losses = {}
    for low, high in pairwise(edges):
        values = [float(line[key]) for line in late if line.get(key := f"loss_sigma/{low}-{high}")]
        if values:
            losses[f"{low}-{high}"] = float(np.mean(values))
    return losses, steps


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_results(results: Sequence[Result], output: Path) -> str:
    """results.json, results.csv, table.md and the figures; the table is given back."""
    text = table(results)
    lines = ",\n".join(json.dumps(_plain(asdict(result))) for result in results)
    with replacing(output / "results.json") as unfinished:
        unfinished.write_text(f'{{"results": [\n{lines}\n]}}\n', encoding="utf-8")
    columns = [*COLUMNS, *EXTRA]
    with replacing(output / "results.csv") as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", *columns])
        writer.writerows([r.row, r.seed, *(r.scores.get(column, "") for column in columns)] for r in results)
    with replacing(output / "table.md") as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")
    figures: dict[str, list[Callable[[Axes, Mapping[str, list[Result]]], None]]] = {
        "recall": [
            partial(_draw_recall, name="expected", title="Identity expected at the place of hiding"),
            partial(_draw_recall, name="expected_elsewhere", title="Identity expected elsewhere"),
        ],
        "quality": [_draw_found, _draw_background],
        "drift": [partial(_draw_drift, column=column, unit=unit) for column, unit in DRIFTS.items()],
        "cost": [_draw_cost],
        "loss_sigma": [_draw_loss],
    }
    by_row = _by_row(results)
    for name, panels in figures.items():
        figure = Figure(figsize=(3.6 + 4.8 * len(panels), 4.2), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.set_prop_cycle(color=matplotlib.colormaps["tab20"].colors)
            draw(axes, by_row)
        lines = {
            text: line for axes in figure.axes for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if lines:
            figure.legend(lines.values(), lines.keys(), loc="outside right center", fontsize=7)
        with replacing(output / f"{name}.png") as unfinished:
            figure.savefig(unfinished, format="png")
    return text


def table(results: Sequence[Result]) -> str:
    """Markdown: a line a row, mean and standard deviation over seeds, then the references."""
    decimals = {column: places for column, (_, _, places) in COLUMNS.items()} | EXTRA
    by_row = _by_row(results)
    columns = [c for c in decimals if any(c in r.scores for r in results)]
    lines = [f"| row | seeds | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for row, found in by_row.items():
        cells = [_cell(*_mean(found, c), decimals[c]) for c in columns]
        lines.append(f"| {row} | {len(found)} | {' | '.join(cells)} |")
    for who in (CEILING, *FLOORS):
        known = [r.references[who] for r in results if who in r.references]
        cells = [_cell(next((values[c] for values in known if c in values), None), None, decimals[c]) for c in columns]
        if any(cells):
            lines.append(f"| *{who}* | | {' | '.join(cells)} |")
    lines += ["", *_drift_table(by_row)]
    where: dict[str, list[str]] = defaultdict(list)
    for key, value in sorted({item for r in results for item in r.where.items()}):
        where[key].append(value)
    said = "; ".join(f"{key} {', '.join(values)}" for key, values in where.items())
    return "\n".join([*lines, "", f"{SPREAD} Seconds for the time. Trained at {said or 'unknown'}."])


def _drift_table(by_row: Mapping[str, list[Result]]) -> Iterator[str]:
    """Drift of every row as a share of teacher forcing's, on the same videos."""
    if TEACHER not in by_row:
        return
    yield f"| drift, {TEACHER} is 1 (95 % interval) | {' | '.join(DRIFTS)} |"
    yield "|---" * (len(DRIFTS) + 1) + "|"
    for row, found in by_row.items():
        shares = [drift_share(found, by_row[TEACHER], column) for column in DRIFTS]
        cells = ["" if share is None else "{:.2f} ({:.2f} to {:.2f})".format(*share) for share in shares]
        if row != TEACHER and any(cells):
            yield f"| {row} | {' | '.join(cells)} |"


def drift_share(
    found: Sequence[Result], teacher: Sequence[Result], column: str, draws: int = 5000
) -> tuple[float, float, float] | None:
    """Mean drift over the teacher's, and its 95 % interval (bootstrap over videos, each the mean of its seeds).

    Only what both have, of a seed and a video, counts. None where those are of fewer than two videos, or where the
    teacher does not surely drift.
    """
    known = {(r.seed, name): value for r in teacher for name, value in r.drifts[column].items()}
    own = {(r.seed, name): value for r in found for name, value in r.drifts[column].items()}
    of_video = defaultdict(list)
    for key in known.keys() & own.keys():
        of_video[key[1]].append((own[key], known[key]))
    pairs = np.array([np.mean(of_video[name], 0) for name in sorted(of_video)])
    if len(pairs) < 2:
        return None
    drawn = np.random.default_rng(0).integers(0, len(pairs), (draws, len(pairs)))
    means = pairs[drawn].mean(1)
    if np.sign(np.quantile(means[:, 1], (0.025, 0.975))).prod() <= 0:
        return None
    low, high = np.quantile(means[:, 0] / means[:, 1], (0.025, 0.975))
    ours, theirs = pairs.mean(0)
    return float(ours / theirs), float(low), float(high)


def _cell(mean: float | None, spread: float | None, decimals: int) -> str:
    if mean is None:
        return ""
    return f"{mean:.{decimals}f}" + ("" if spread is None else f" ± {spread:.{decimals}f}")


def _mean(found: Sequence[Result], column: str) -> tuple[float | None, float | None]:
    """Of a row's seeds, and how uncertain it is; see `SPREAD`."""
    measured = [result for result in found if column in result.scores]
    if len(measured) < 2:
        return next(((r.scores[column], r.half_widths.get(column)) for r in measured), (None, None))
    values = [result.scores[column] for result in measured]
    return float(np.mean(values)), float(np.std(values, ddof=1))


def _by_row(results: Iterable[Result]) -> dict[str, list[Result]]:
    by_row: dict[str, list[Result]] = {}
    for result in results:
        by_row.setdefault(result.row, []).append(result)
    return by_row


def _draw_recall(axes: Axes, by_row: Mapping[str, list[Result]], name: str, title: str) -> None:
    for number, (row, found) in enumerate(by_row.items()):
        x, y = [], []
        for low, high in pairwise(HIDDEN_BINS):
            recalls = [recall for result in found for recall in result.recalls.get(name, ())]
            inside = [(seconds, right) for seconds, right in recalls if low <= seconds < high]
            if len(inside) >= FEWEST:
                x.append(np.mean([s for s, _ in inside]))
                y.append(np.mean([right for _, right in inside]))
        if x:
            aside = ASIDE_SECONDS * (number / len(by_row) - 0.5)  # or rows that agree would hide each other
            axes.plot(np.array(x) + aside, y, "o-", markersize=4, linewidth=1, label=row)
    axes.axhline(1 / CHOICES, color="black", linewidth=1, linestyle=":", label=f"chance, 1 of {CHOICES}")
    axes.axvline(REACH_SECONDS, color="gray", linewidth=1, label="FramePack's window")
    axes.set(
        xlabel="seconds hidden",
        ylabel="identity right",
        ylim=(-0.03, 1.05),
        title=title,
    )


def _draw_found(axes: Axes, by_row: Mapping[str, list[Result]]) -> None:
    for row, found in by_row.items():
        curve = _mean_curve([result.found for result in found])
        axes.plot(np.arange(1, len(curve) + 1), curve, label=row, linewidth=1.2)
    axes.set(xlabel="section", ylabel="share of the objects found", ylim=(0, 1.05), title="Objects found, by section")


def _draw_background(axes: Axes, by_row: Mapping[str, list[Result]]) -> None:
    for row, found in by_row.items():
        curve = _mean_curve([result.curve for result in found])
        axes.plot(np.arange(1, len(curve) + 1) / found[0].fps, curve, label=row, linewidth=1.2)
    axes.set(xlabel="seconds", ylabel="background PSNR (dB)", title="Background PSNR over time")


def _mean_curve(curves: Sequence[Sequence[float]]) -> Float[np.ndarray, " shortest"]:
    length = min(map(len, curves))
    return np.ma.masked_invalid([curve[:length] for curve in curves]).mean(0).filled(math.nan)


def _draw_drift(axes: Axes, by_row: Mapping[str, list[Result]], column: str, unit: str) -> None:
    means = [_mean(found, column) for found in by_row.values()]
    heights, spreads = [math.nan if mean is None else mean for mean, _ in means], [spread or 0.0 for _, spread in means]
    places = np.arange(len(means))
    axes.bar(places, heights, yerr=spreads, capsize=3)
    axes.set_xticks(places, list(by_row), rotation=40, ha="right", fontsize=7)
    axes.set(ylabel=unit, title=f"{column.capitalize()}: last minus first 15 %")


def _draw_cost(axes: Axes, by_row: Mapping[str, list[Result]]) -> None:
    for row, found in by_row.items():
        (cost, _), (drift, spread) = _mean(found, COST), _mean(found, "objects drift")
        if cost is not None and drift is not None:
            axes.errorbar(cost, drift, spread or 0.0, fmt="o", capsize=3)
            axes.annotate(row, (cost, drift), (4, 3), textcoords="offset points", fontsize=7)
    axes.set(
        xlabel="seconds of training a step",
        ylabel="objects drift (share found)",
        title="Drift against training cost",
    )


def _draw_loss(axes: Axes, by_row: Mapping[str, list[Result]]) -> None:
    for row, found in by_row.items():
        keys = [key for key in found[0].loss_sigma if all(key in r.loss_sigma for r in found)]
        if keys:
            axes.plot(
                keys, [np.mean([r.loss_sigma[key] for r in found]) for key in keys], "o-", markersize=4, label=row
            )
    axes.set(xlabel="noise level", ylabel="training loss", title="Loss by noise level, last quarter of the steps")


def _plain(value: Any) -> Any:
    """For JSON: floats with six digits, null where there is none."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
