"""Ratings from pairwise votes: the paper's ELO-K32 (§5.2), and Bradley-Terry with intervals.

ELO-K32 reads the votes one after another, so the same votes in another order give other ratings: at K = 32 the spread
is about 40 points however many votes there are. Its mean and spread over random orders stand beside the recorded order
for that reason. Bradley-Terry is the maximum of a likelihood that knows no order; its intervals come from a bootstrap
that draws raters and prompts, not single votes, because votes of one person or about one prompt go together.

A tie is half a win for both. "Both bad" says nothing about who is better: it is counted, and rates nobody.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Answer = Literal["left", "right", "tie", "both_bad"]

ELO_START, ELO_K = 1500.0, 32.0
MIN_VOTES = 10  # fewer have no interval: a bootstrap of three votes that agree says "1857 to 1857"
ELO_SCALE = 400 / math.log(10)  # points per unit of log odds
_MIRRORED: dict[Answer, Answer] = {"left": "right", "right": "left", "tie": "tie", "both_bad": "both_bad"}
_LEFT_SCORE = {"left": 1.0, "right": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Comparison:
    """One answer of one rater: two methods' videos of the same prompt, and which was better."""

    rater: str
    prompt: str
    left: str
    right: str
    answer: Answer


@dataclass(frozen=True)
class Rating:
    """A method's place.

    Args:
        method: its name.
        votes: comparisons it took part in, "both bad" excluded.
        both_bad: comparisons of it that were answered "both bad".
        bradley_terry: maximum likelihood, on Elo's scale, mean 1500 over the methods.
        low: 2.5th percentile of the bootstrap; None where the votes are too few or too alike for an interval.
        high: 97.5th percentile; likewise.
        rank: 1 is best.
        best_rank: the better end of the 95 % interval of ranks; likewise.
        worst_rank: the other end; likewise.
        elo: ELO-K32 in the recorded order, from 1500.
        elo_mean: over random orders of the same votes.
        elo_sd: their standard deviation.
    """

    method: str
    votes: int
    both_bad: int
    bradley_terry: float
    low: float | None
    high: float | None
    rank: int
    best_rank: int | None
    worst_rank: int | None
    elo: float
    elo_mean: float
    elo_sd: float


@dataclass(frozen=True)
class Share:
    """A proportion with its 95 % Wilson interval; `value` is nan where `count` is 0."""

    value: float
    low: float
    high: float
    count: int


def rate(
    comparisons: Sequence[Comparison],
    methods: Sequence[str],
    *,
    orders: int = 1000,
    resamples: int = 1000,
    prior: float = 0.1,
    seed: int = 0,
) -> list[Rating]:
    """Every method's ratings, the best by Bradley-Terry first.

    Args:
        comparisons: in the order in which they were cast.
        methods: all that were shown; each `left` and `right` is one of them.
        orders: random orders for ELO-K32's mean and spread.
        resamples: bootstrap draws of raters and prompts.
        prior: votes added to every pair as a tie, so that an unbeaten method stays finite.
        seed: of the orders and the bootstrap.
    """
    rng = np.random.default_rng(seed)
    decided = [vote for vote in comparisons if vote.answer != "both_bad"]
    votes = _encode(decided, methods)
    best = bradley_terry(win_matrix(decided, methods), prior)
    draws = _bootstrap(votes, len(methods), resamples, prior, rng)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    # where every draw gives the same rating the votes about a method all agree, and their spread is unknown
    has_interval = (len(decided) >= MIN_VOTES) & (high - low > 1)
    ranks = _ranks(draws)
    best_rank = np.percentile(ranks, 2.5, axis=0, method="lower")
    worst_rank = np.percentile(ranks, 97.5, axis=0, method="higher")
    recorded = _elo(votes, len(methods), np.arange(len(decided))[None])[0]
    shuffled = _elo(votes, len(methods), rng.permuted(np.tile(np.arange(len(decided)), (orders, 1)), axis=1))
    ratings = [
        Rating(
            method=method,
            votes=sum(method in (vote.left, vote.right) for vote in decided),
            both_bad=sum(vote.answer == "both_bad" and method in (vote.left, vote.right) for vote in comparisons),
            bradley_terry=float(best[i]),
            low=float(low[i]) if has_interval[i] else None,
            high=float(high[i]) if has_interval[i] else None,
            rank=int(_ranks(best[None])[0, i]),
            best_rank=int(best_rank[i]) if has_interval[i] else None,
            worst_rank=int(worst_rank[i]) if has_interval[i] else None,
            elo=float(recorded[i]),
            elo_mean=float(shuffled[:, i].mean()),
            elo_sd=float(shuffled[:, i].std()),
        )
        for i, method in enumerate(methods)
    ]
    return sorted(ratings, key=lambda rating: (rating.rank, rating.method))


def elo_k32(comparisons: Sequence[Comparison], methods: Sequence[str]) -> Float[np.ndarray, " m"]:
    """Ratings after these votes in this order: R += 32 (S - E) from 1500, E = 1 / (1 + 10^((R_other - R) / 400))."""
    decided = [vote for vote in comparisons if vote.answer != "both_bad"]
    return _elo(_encode(decided, methods), len(methods), np.arange(len(decided))[None])[0]


def win_matrix(comparisons: Sequence[Comparison], methods: Sequence[str]) -> Float[np.ndarray, "m m"]:
    """How often the row's method beat the column's; a tie is half a win for both, "both bad" is none."""
    votes = _encode([vote for vote in comparisons if vote.answer != "both_bad"], methods)
    return _wins(votes, len(methods), np.ones((1, len(votes.score))))[0]


def bradley_terry(wins: Float[np.ndarray, "*b m m"], prior: float) -> Float[np.ndarray, "*b m"]:
    """The ratings under which these wins are likeliest, on Elo's scale, mean 1500; Newton's method.

    Args:
        wins: row beats column; any leading axes.
        prior: votes added to every pair as a tie; above 0, or a method without a loss has no finite rating.
    """
    methods = wins.shape[-1]
    wins = wins + prior / 2 * (1 - np.eye(methods))
    met = wins + np.swapaxes(wins, -1, -2)
    strength = np.zeros(wins.shape[:-1])
    for _ in range(100):
        expected = 1 / (1 + np.exp(strength[..., None, :] - strength[..., :, None]))
        gradient = (wins - met * expected).sum(-1)
        weight = met * expected * (1 - expected)
        curvature = weight.sum(-1)[..., None] * np.eye(methods) - weight
        # the ones fix what no vote can tell, the mean
        step = np.linalg.solve(curvature + np.ones((methods, methods)), gradient[..., None])[..., 0]
        step = np.clip(step, -1.0, 1.0)  # far from the maximum a full step may overshoot
        strength = strength + step
        if np.abs(step).max() < 1e-10:
            break
    strength -= strength.mean(-1, keepdims=True)
    return ELO_START + ELO_SCALE * strength


def krippendorff_alpha(values: Int[np.ndarray, "raters units"]) -> float:
    """Agreement beyond chance for categories without order: 1 is perfect, 0 is chance, below is systematic difference.

    Krippendorff, *Computing Krippendorff's Alpha-Reliability* (2011), nominal; any number of raters, gaps allowed.

    Args:
        values: the category (0, 1, ...) that a rater gave a unit, or -1 for none.

    Returns:
        nan where no unit has two raters, or where all gave the same category everywhere.
    """
    categories = max(int(values.max(initial=-1)) + 1, 1)
    counts = (values[None] == np.arange(categories)[:, None, None]).sum(1).T.astype(float)  # [units, categories]
    raters = counts.sum(1)
    counts, raters = counts[raters >= 2], raters[raters >= 2]
    pairs = np.einsum("uc,ud->ucd", counts, counts) - counts[:, :, None] * np.eye(categories)
    coincidences = (pairs / (raters - 1)[:, None, None]).sum(0)
    totals = coincidences.sum(1)
    expected = np.outer(totals, totals).sum() - (totals**2).sum()
    if expected == 0:
        return math.nan
    observed = coincidences.sum() - np.trace(coincidences)
    return float(1 - (totals.sum() - 1) * observed / expected)


def share(hits: int, count: int) -> Share:
    """A proportion and its 95 % Wilson score interval."""
    if count == 0:
        return Share(math.nan, 0.0, 1.0, 0)
    z, p = 1.959964, hits / count
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return Share(p, max(0.0, centre - half), min(1.0, centre + half), count)


def left_share(comparisons: Sequence[Comparison]) -> Share:
    """How often the left side won among the votes that named a side: 0.5 without a bias for a side."""
    sided = [vote.answer for vote in comparisons if vote.answer in ("left", "right")]
    return share(sided.count("left"), len(sided))


def agreement(comparisons: Sequence[Comparison]) -> float:
    """Krippendorff's alpha of the raters over (prompt, two methods), whichever side each method was shown on.

    Every vote is taken both ways round, so that no method is "the first" and other names change nothing.
    """
    both = [*comparisons, *map(mirrored, comparisons)]
    raters = {rater: i for i, rater in enumerate(sorted({vote.rater for vote in both}))}
    units = {unit: i for i, unit in enumerate(sorted({(vote.prompt, vote.left, vote.right) for vote in both}))}
    values = np.full((len(raters), len(units)), -1)
    for vote in both:
        category = ("left", "right", "tie", "both_bad").index(vote.answer)
        values[raters[vote.rater], units[vote.prompt, vote.left, vote.right]] = category
    return krippendorff_alpha(values)


def mirrored(vote: Comparison) -> Comparison:
    """The same opinion, had the sides been changed."""
    return replace(vote, left=vote.right, right=vote.left, answer=_MIRRORED[vote.answer])


@dataclass(frozen=True)
class _Encoded:
    """Decided votes as numbers; `score` is the left side's: 1 a win, 0.5 a tie, 0 a loss."""

    left: Int[np.ndarray, " n"]
    right: Int[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    rater: Int[np.ndarray, " n"]
    prompt: Int[np.ndarray, " n"]


def _encode(decided: Sequence[Comparison], methods: Sequence[str]) -> _Encoded:
    number = {method: i for i, method in enumerate(methods)}
    raters = {name: i for i, name in enumerate(dict.fromkeys(vote.rater for vote in decided))}
    prompts = {name: i for i, name in enumerate(dict.fromkeys(vote.prompt for vote in decided))}
    return _Encoded(
        np.array([number[vote.left] for vote in decided], dtype=int),
        np.array([number[vote.right] for vote in decided], dtype=int),
        np.array([_LEFT_SCORE[vote.answer] for vote in decided], dtype=float),
        np.array([raters[vote.rater] for vote in decided], dtype=int),
        np.array([prompts[vote.prompt] for vote in decided], dtype=int),
    )


def _wins(votes: _Encoded, methods: int, weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b m m"]:
    """Win matrices in which vote n counts `weights[b, n]` times."""
    of_vote = np.zeros((len(votes.score), methods, methods))
    rows = np.arange(len(votes.score))
    of_vote[rows, votes.left, votes.right] = votes.score
    of_vote[rows, votes.right, votes.left] = 1 - votes.score
    return (weights @ of_vote.reshape(len(rows), methods * methods)).reshape(-1, methods, methods)


def _bootstrap(
    votes: _Encoded, methods: int, resamples: int, prior: float, rng: np.random.Generator
) -> Float[np.ndarray, "b m"]:
    """Ratings after drawing raters and prompts; a vote counts (draws of its rater) x (draws of its prompt) times."""
    weights = np.ones((resamples, len(votes.score)))
    for index in (votes.rater, votes.prompt):
        kinds = int(index.max(initial=-1)) + 1
        if kinds > 0:
            weights *= rng.multinomial(kinds, np.full(kinds, 1 / kinds), size=resamples)[:, index]
    return bradley_terry(_wins(votes, methods, weights), prior)


def _elo(votes: _Encoded, methods: int, orders: Int[np.ndarray, "b n"]) -> Float[np.ndarray, "b m"]:
    """ELO-K32 ratings for many orders of the votes at once."""
    ratings = np.full((len(orders), methods), ELO_START)
    row = np.arange(len(orders))
    for vote in orders.T:
        left, right = votes.left[vote], votes.right[vote]
        expected = 1 / (1 + 10 ** ((ratings[row, right] - ratings[row, left]) / 400))
        gain = ELO_K * (votes.score[vote] - expected)
        ratings[row, left] += gain
        ratings[row, right] -= gain
    return ratings


def _ranks(ratings: Float[np.ndarray, "b m"]) -> Int[np.ndarray, "b m"]:
    """1 for the best; methods that are exactly equal share a rank."""
    return 1 + (ratings[:, None, :] > ratings[:, :, None]).sum(-1)
