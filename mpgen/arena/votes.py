"""The votes of a file that count: those of raters who pass enough attention checks."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpgen.arena.ranking import Comparison, Share, mirrored, share
from mpgen.arena.store import Ballot, VoteStore
from mpgen.errors import UserError


@dataclass(frozen=True)
class Rater:
    """How careful somebody was; the votes of `excluded` raters count nowhere."""

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
        damaged: votes whose answers cannot be read.
        max_failed_checks: the share of failed attention checks above which a rater is excluded.
    """

    question: str
    comparisons: tuple[Comparison, ...]
    seconds: tuple[float, ...]
    raters: dict[str, Rater]
    repeats: Share
    damaged: int = 0
    max_failed_checks: float = 1 / 3


def read_votes(path: Path, question: str, max_failed_checks: float) -> Votes:
    """The votes of a file, without those of raters who failed too many attention checks.

    Raises:
        UserError: no votes file, a question that was not asked, or no vote that counts.
    """
    store = VoteStore(path, writable=False)
    try:
        ballots, asked = store.ballots(), (store.setting("questions") or "").split()
        damaged = len(store.damaged())
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path}: is damaged: {error}; wanted a votes file that can be read (--votes)") from error
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
        raise UserError(f"{path}: has no vote that counts: {_why_none(ballots, raters, damaged, max_failed_checks)}")
    return Votes(
        question,
        tuple(_comparison(ballot, question) for ballot in counted),
        tuple(ballot.pair.seconds for ballot in counted),
        raters,
        _self_agreement(kept, question),
        damaged,
        max_failed_checks,
    )


def _why_none(ballots: Sequence[Ballot], raters: dict[str, Rater], damaged: int, max_failed_checks: float) -> str:
    excluded = [rater for rater in raters.values() if rater.excluded]
    parts = [f"{len(ballots)} votes of {len(raters)} raters"]
    if damaged:
        parts.append(f"{damaged} more cannot be read")
    if excluded:
        parts.append(
            f"{len(excluded)} of the raters failed more than {max_failed_checks:.0%} of their attention checks and are "
            "excluded (--max_failed_checks 1 keeps everybody)"
        )
    return "; ".join(parts)


def failed_check(ballot: Ballot, question: str) -> bool | None:
    """Whether an attention check was failed; None if the pair is none, or the answer says nothing.

    The same video twice: a side was named. A degraded copy: anything but the other side; "both bad" may be meant.
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
