"""What the votes say: ratings, who beat whom, whether raters agree and paid attention; as text, JSON and a picture."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpgen.arena.ranking import (
    Comparison,
    Rating,
    Share,
    agreement,
    left_share,
    mirrored,
    rate,
    share,
    win_matrix,
)
from mpgen.arena.store import Ballot, VoteStore
from mpgen.atomic import replacing
from mpgen.errors import UserError

# Table 1 of the paper, ELO-K32: its own study, not comparable point by point with another
PAPER_ELO = {"Magi-1": 1434, "FramePack-F0": 1459, "FramePack-F1": 1537, "MemoryPack + Direct Forcing": 1568}
BOUNDS = (0.0, 20.0, 45.0, math.inf)  # seconds; the paper's videos are 10, 30 and 60 s
LENGTHS = {"up to 20 s": "<", "20 to 45 s": "d", "over 45 s": ">"}  # what is between two bounds, and its marker


@dataclass(frozen=True)
class Rater:
    """How careful somebody was; `excluded` raters count nowhere."""

    name: str
    votes: int
    checks: int
    failed: int
    excluded: bool


@dataclass(frozen=True)
class Votes:
    """What a votes file holds for one question.

    Args:
        question: which.
        comparisons: the votes that count, in the order in which they were cast.
        seconds: length of the longer video of each.
        raters: by number.
        repeats: how often a repeated pair got the same answer.
    """

    question: str
    comparisons: tuple[Comparison, ...]
    seconds: tuple[float, ...]
    raters: dict[str, Rater]
    repeats: Share


def read_votes(path: Path, question: str, max_failed_checks: float) -> Votes:
    """The votes of a file, without those of raters who failed too many attention checks.

    Raises:
        UserError: no votes file, a question that was not asked, or no vote that counts.
    """
    store = VoteStore(path, writable=False)
    try:
        ballots, asked = store.ballots(), (store.setting("questions") or "").split()
    finally:
        store.close()
    if asked and question not in asked:
        raise UserError(f"{path}: --question {question} was not asked, wanted one of {', '.join(asked)}")
    by_rater: dict[str, list[Ballot]] = {}
    for ballot in ballots:
        by_rater.setdefault(str(ballot.pair.rater), []).append(ballot)
    raters = {number: _rater(mine, asked[0], max_failed_checks) for number, mine in by_rater.items()}
    kept = [ballot for ballot in ballots if not raters[str(ballot.pair.rater)].excluded]
    counted = [ballot for ballot in kept if ballot.pair.kind == "compare"]
    if not counted:
        excluded = sum(rater.excluded for rater in raters.values())
        raise UserError(f"{path}: has no vote that counts ({len(ballots)} votes, {excluded} raters left out)")
    return Votes(
        question,
        tuple(_comparison(ballot, question) for ballot in counted),
        tuple(ballot.pair.seconds for ballot in counted),
        raters,
        _self_agreement(kept, question),
    )


def failed_check(ballot: Ballot, question: str) -> bool | None:
    """Whether an attention check was failed; None if the pair is none, or the answer says nothing.

    The same video twice: a side was named. A spoilt copy: anything but the other side; "both bad" may be meant.
    """
    answer = ballot.answers[question]
    if ballot.pair.kind == "same":
        return answer in ("left", "right")
    if ballot.pair.kind == "degraded" and answer != "both_bad":
        return answer in ("tie", ballot.pair.degraded)
    return None


def _rater(ballots: Sequence[Ballot], question: str, max_failed_checks: float) -> Rater:
    checks = [failed for ballot in ballots if (failed := failed_check(ballot, question)) is not None]
    excluded = sum(checks) > max_failed_checks * len(checks)
    return Rater(ballots[0].rater_name, len(ballots), len(checks), sum(checks), excluded)


def _comparison(ballot: Ballot, question: str) -> Comparison:
    pair = ballot.pair
    return Comparison(str(pair.rater), pair.prompt, pair.left, pair.right, ballot.answers[question])


def _self_agreement(ballots: Sequence[Ballot], question: str) -> Share:
    first = {ballot.pair.id: ballot.answers[question] for ballot in ballots}
    same = [
        mirrored(_comparison(ballot, question)).answer == first[ballot.pair.repeats]
        for ballot in ballots
        if ballot.pair.kind == "repeat" and ballot.pair.repeats in first
    ]
    return share(sum(same), len(same))


def write_report(votes: Votes, output: Path, prior: float, orders: int, resamples: int, seed: int) -> str:
    """Writes ranking.json, ranking.txt and ranking.png; returns the text."""
    methods = sorted({method for vote in votes.comparisons for method in (vote.left, vote.right)})
    options = {"orders": orders, "resamples": resamples, "prior": prior, "seed": seed}
    ratings = rate(votes.comparisons, methods, **options)
    by_length = {
        label: rate(some, methods, **options)
        for (lower, bound), label in zip(pairwise(BOUNDS), LENGTHS, strict=True)
        if (some := [v for v, s in zip(votes.comparisons, votes.seconds, strict=True) if lower < s <= bound])
    }
    order = [rating.method for rating in ratings]
    wins = win_matrix(votes.comparisons, order)
    text = _text(votes, ratings, by_length, wins)
    record = {
        "question": votes.question,
        "votes": len(votes.comparisons),
        "answers": Counter(vote.answer for vote in votes.comparisons),
        "ratings": [asdict(rating) for rating in ratings],
        "by_length": {label: [asdict(rating) for rating in some] for label, some in by_length.items()},
        "wins": {"methods": order, "row_beat_column": wins.tolist()},
        "krippendorff_alpha": _or_none(agreement(votes.comparisons)),
        "self_agreement": _share_json(votes.repeats),
        "left_share": _share_json(left_share(votes.comparisons)),
        "raters": [asdict(rater) for rater in votes.raters.values()],
        "settings": options,
        "paper_elo_k32": PAPER_ELO,
    }
    with replacing(output / "ranking.json") as path:
        path.write_text(json.dumps(record, indent=2, allow_nan=False), encoding="utf-8")
    with replacing(output / "ranking.txt") as path:
        path.write_text(text + "\n", encoding="utf-8")
    with replacing(output / "ranking.png") as path:
        _plot(ratings, by_length, wins, path)
    return text


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _share_json(of: Share) -> dict[str, Any]:
    return asdict(of) | {"value": _or_none(of.value)}


def _text(votes: Votes, ratings: Sequence[Rating], by_length: dict[str, list[Rating]], wins: np.ndarray) -> str:
    answers = Counter(vote.answer for vote in votes.comparisons)
    excluded = [rater for rater in votes.raters.values() if rater.excluded]
    checks = sum(rater.checks for rater in votes.raters.values())
    failed = sum(rater.failed for rater in votes.raters.values())
    alpha = agreement(votes.comparisons)
    lines = [
        f"{votes.question}: {len(votes.comparisons)} votes of {len(votes.raters) - len(excluded)} raters; "
        f"{answers['tie']} ties, {answers['both_bad']} both bad (counted, rating nobody)",
        "",
        *_table(_rows(ratings)),
        "",
        "the paper's ELO-K32, from its own study: "
        + ", ".join(f"{method} {points}" for method, points in PAPER_ELO.items()),
        "",
        "row beat column (a tie is half)",
        *_table(
            [["", *(rating.method for rating in ratings)]]
            + [[rating.method, *(f"{count:g}" for count in row)] for rating, row in zip(ratings, wins, strict=True)]
        ),
        "",
        f"agreement of raters: {'no pair has two' if math.isnan(alpha) else f'Krippendorff alpha {alpha:.2f}'}",
        f"the same answer when asked again: {_percent(votes.repeats)}",
        f"left side chosen: {_percent(left_share(votes.comparisons))}",
        f"attention checks: {failed} of {checks} failed; {len(excluded)} of {len(votes.raters)} raters left out with "
        f"their {sum(rater.votes for rater in excluded)} votes",
        *(f"  {rater.name!a}: {rater.failed} of {rater.checks} failed" for rater in excluded),
    ]
    if len(by_length) > 1:
        for label, some in by_length.items():
            lines += ["", label, *_table(_rows(some))]
    return "\n".join(lines)


def _rows(ratings: Sequence[Rating]) -> list[list[str]]:
    header = ["", "Bradley-Terry", "95 %", "rank", "95 %", "ELO-K32", "over orders", "votes", "both bad"]
    return [header] + [
        [
            rating.method,
            f"{rating.bradley_terry:.0f}",
            f"{rating.low:.0f} to {rating.high:.0f}",
            str(rating.rank),
            f"{rating.best_rank} to {rating.worst_rank}",
            f"{rating.elo:.0f}",
            f"{rating.elo_mean:.0f} ± {rating.elo_sd:.0f}",
            str(rating.votes),
            str(rating.both_bad),
        ]
        for rating in ratings
    ]


def _percent(of: Share) -> str:
    if of.count == 0:
        return "nothing to tell it by"
    return f"{of.value:.0%} of {of.count} ({of.low:.0%} to {of.high:.0%})"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _plot(ratings: Sequence[Rating], by_length: dict[str, list[Rating]], wins: np.ndarray, path: Path) -> None:
    figure = Figure(figsize=(11, 1.6 + 0.55 * len(ratings)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    rows = np.arange(len(ratings))[::-1]
    for row, rating in zip(rows, ratings, strict=True):
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
        for label, some in by_length.items():
            of = {rating.method: rating.bradley_terry for rating in some}
            points = [of[rating.method] for rating in ratings]
            left.plot(
                points,
                rows + 0.22,
                LENGTHS[label],
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
    right.imshow(shares, vmin=0, vmax=1, cmap="RdBu", aspect="auto")
    for i, j in zip(*np.nonzero(met), strict=True):
        right.text(j, i, f"{shares[i, j]:.0%}\nof {met[i, j]:.0f}", ha="center", va="center", fontsize=8)
    right.set_xticks(range(len(ratings)), [rating.method for rating in ratings], rotation=20, ha="right")
    right.set_yticks(range(len(ratings)), [rating.method for rating in ratings])
    right.set_title("row beat column", fontsize=10)
    figure.savefig(path, dpi=130, format="png")
