"""Votes as a ranking: ratings, who beat whom, whether raters agree and paid attention; as text, JSON and a picture."""

import json
import math
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from mpgen.arena.figure import plot
from mpgen.arena.ranking import Share, agreement, left_share, rate, win_matrix
from mpgen.arena.text import LENGTHS, PAPER_ELO, as_text
from mpgen.arena.votes import Votes
from mpgen.atomic import replacing

BOUNDS = (0.0, 20.0, 45.0, math.inf)  # seconds between the groups of LENGTHS; the paper's videos are 10, 30 and 60 s


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
    text = as_text(votes, ratings, by_length, wins)
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
        "damaged_votes": votes.damaged,
        "raters": [asdict(rater) for rater in votes.raters.values()],
        "settings": options,
        "paper_elo_k32": PAPER_ELO,
    }
    with replacing(output / "ranking.json") as path:
        path.write_text(json.dumps(record, indent=2, allow_nan=False), encoding="utf-8")
    with replacing(output / "ranking.txt") as path:
        path.write_text(text + "\n", encoding="utf-8")
    with replacing(output / "ranking.png") as path:
        plot(ratings, by_length, wins, path)
    return text


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _share_json(of: Share) -> dict[str, Any]:
    return asdict(of) | {"value": _or_none(of.value)}
