"""The rows of a comparison, as text."""

from mpgen.comparison.runs import RunRecord
from mpgen.text_table import aligned

Row = tuple[str, ...]
ABSENT = "-"
FIRST = ("loss", "val_loss", "gradient_norm", "learning_rate")  # then all others by name
LONGEST = 48


def config_rows(a: RunRecord, b: RunRecord) -> list[Row]:
    """Keys of which the values differ."""
    keys = dict.fromkeys((*a.config, *b.config))
    return [
        (key, a.config.get(key, ABSENT), b.config.get(key, ABSENT))
        for key in keys
        if a.config.get(key) != b.config.get(key)
    ]


def curve_rows(a: RunRecord, b: RunRecord) -> list[Row]:
    """Each logged number's mean over the last quarter of the run's steps, and the difference."""
    names = dict.fromkeys((*FIRST, *a.curves, *b.curves))
    rows = [("steps", *(str(_steps(run)) for run in (a, b)), "")]
    for name in names:
        found = [run.curves[name].late if name in run.curves else None for run in (a, b)]
        rows += [(name, *_numbers(*found, ".4g"))] if any(value is not None for value in found) else []
    return rows


def score_rows(a: RunRecord, b: RunRecord) -> list[Row]:
    """Each score of either, the mean and half of its 95 % interval over videos, and the difference of the means."""
    rows = []
    for name in dict.fromkeys((*a.scores, *b.scores)):
        found = [run.scores.get(name, (None, None)) for run in (a, b)]
        *means, difference = _numbers(found[0][0], found[1][0], ".3f")
        halves = ["" if half is None else f" ±{half:.3f}" for _, half in found]
        rows.append((name, *(mean + half for mean, half in zip(means, halves, strict=True)), difference))
    return rows


def terminal(a: RunRecord, b: RunRecord) -> str:
    """All of it but the numbers by section and noise level, which the page has."""
    shown = [row for row in curve_rows(a, b) if "/" not in row[0]]
    names = (str(a.folder), str(b.folder))
    parts = [
        _titled("configs differ in", ("", *names), config_rows(a, b), "no key"),
        _titled("logged, mean of the last quarter", ("", *names, "second - first"), shown, "nothing"),
        _titled("scores", ("", *names, "second - first"), score_rows(a, b), "none (mpgen evaluate --output in a run)"),
    ]
    return "\n\n".join(parts)


def _steps(run: RunRecord) -> int:
    return max((int(curve.steps[-1]) + 1 for name, curve in run.curves.items() if name == "loss"), default=0)


def _numbers(first: float | None, second: float | None, form: str) -> Row:
    texts = tuple(ABSENT if value is None else format(value, form) for value in (first, second))
    return (*texts, ABSENT if first is None or second is None else format(second - first, f"+{form}"))


def _titled(title: str, header: Row, rows: list[Row], otherwise: str) -> str:
    if not rows:
        return f"{title}: {otherwise}"
    short = [tuple(cell if len(cell) <= LONGEST else f"{cell[: LONGEST - 3]}..." for cell in row) for row in rows]
    return f"{title}:\n{aligned([header, *short])}"
