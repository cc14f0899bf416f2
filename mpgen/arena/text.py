"""The ranking as text."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mpgen.arena.ranking import MIN_VOTES, Rating, Share, agreement, left_share
from mpgen.arena.votes import Votes
from mpgen.text_table import aligned

# Table 1 of the paper, ELO-K32: its own study, not comparable point by point with another
PAPER_ELO = {"Magi-1": 1434, "FramePack-F0": 1459, "FramePack-F1": 1537, "MemoryPack + Direct Forcing": 1568}
LENGTHS = ("up to 20 s", "20 to 45 s", "over 45 s")
MANY_EXCLUDED = 0.25  # of all votes
ABSENT = "-"


def as_text(votes: Votes, ratings: Sequence[Rating], by_length: dict[str, list[Rating]], wins: np.ndarray) -> str:
    answers = Counter(vote.answer for vote in votes.comparisons)
    excluded = [rater for rater in votes.raters.values() if rater.excluded]
    checks = sum(rater.checks for rater in votes.raters.values())
    failed = sum(rater.failed for rater in votes.raters.values())
    alpha = agreement(votes.comparisons)
    lines = [
        f"{votes.question}: {len(votes.comparisons)} votes of {len(votes.raters) - len(excluded)} raters; "
        f"{answers['tie']} ties, {answers['both_bad']} both bad (counted, rating nobody)",
        "",
        aligned(_rows(ratings)),
        "",
        "the paper's ELO-K32, from its own study: "
        + ", ".join(f"{method} {points}" for method, points in PAPER_ELO.items()),
        "",
        "row beat column (a tie is half)",
        aligned(
            [["", *(rating.method for rating in ratings)]]
            + [[rating.method, *(f"{count:g}" for count in row)] for rating, row in zip(ratings, wins, strict=True)]
        ),
        "",
        f"agreement of raters: {'no pair has two' if math.isnan(alpha) else f'Krippendorff alpha {alpha:.2f}'}",
        f"the same answer when asked again: {_percent(votes.repeats)}",
        f"left side chosen: {_percent(left_share(votes.comparisons))}",
        f"attention checks: {failed} of {checks} failed. One turn in ten shows the same video twice (right: a tie) or "
        f"a video and a degraded copy (right: the video); who fails more than {votes.max_failed_checks:.0%} of them is "
        f"excluded, which are {len(excluded)} of {len(votes.raters)} raters",
        *(f"  {rater.name!a}: {rater.failed} of {rater.checks} failed, {rater.votes} votes" for rater in excluded),
    ]
    if any(rating.low is None for rating in ratings):
        lines.append(
            f"{ABSENT}: no interval, for the votes are too few or all agree ({len(votes.comparisons)}; wanted "
            f"{MIN_VOTES} or more that do not)"
        )
    lost = sum(rater.votes for rater in excluded)
    if lost > MANY_EXCLUDED * sum(rater.votes for rater in votes.raters.values()):
        lines.append(f"warning: {lost} votes are excluded; see above why, and --max_failed_checks (1 keeps everybody)")
    if votes.damaged:
        lines.append(f"warning: {votes.damaged} votes cannot be read and are skipped")
    if len(by_length) > 1:
        for label, some in by_length.items():
            lines += ["", label, aligned(_rows(some))]
    return "\n".join(lines)


def _rows(ratings: Sequence[Rating]) -> list[list[str]]:
    header = ["", "Bradley-Terry", "95 %", "rank", "95 %", "ELO-K32", "over orders", "votes", "both bad"]
    return [header] + [
        [
            rating.method,
            f"{rating.bradley_terry:.0f}",
            ABSENT if rating.low is None else f"{rating.low:.0f} to {rating.high:.0f}",
            str(rating.rank),
            ABSENT if rating.low is None else f"{rating.best_rank} to {rating.worst_rank}",
            f"{rating.elo:.0f}",
            f"{rating.elo_mean:.0f} ± {rating.elo_sd:.0f}",
            str(rating.votes),
            str(rating.both_bad),
        ]
        for rating in ratings
    ]


def _percent(of: Share) -> str:
    if of.count == 0:
        return "no such votes"
    return f"{of.value:.0%} of {of.count} ({of.low:.0%} to {of.high:.0%})"
