"""Ratings: planted strengths come back, order and names do not matter where they must not."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpgen.arena.ranking import (
    Comparison,
    agreement,
    bradley_terry,
    elo_k32,
    krippendorff_alpha,
    left_share,
    mirrored,
    rate,
    share,
    win_matrix,
)

METHODS = ("f0", "f1", "magi", "ours")
ANSWERS = ("left", "right", "tie", "both_bad")


@st.composite
def votes(draw, least: int = 0):
    """Votes about four methods with every kind of answer."""
    sides = st.permutations(METHODS).map(lambda order: order[:2])
    vote = st.builds(
        lambda sides, answer, rater, prompt: Comparison(f"rater {rater}", f"p{prompt}", *sides, answer),
        sides,
        st.sampled_from(ANSWERS),
        st.integers(0, 3),
        st.integers(0, 4),
    )
    return draw(st.lists(vote, min_size=least, max_size=40))


def simulate(
    ratings: dict[str, float], count: int, seed: int, raters: int = 12, prompts: int = 30, ties: float = 0.0
) -> list[Comparison]:
    """Votes drawn from known ratings."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.permutations(ratings, 2))
    made = []
    for _ in range(count):
        left, right = pairs[rng.integers(len(pairs))]
        chance = 1 / (1 + 10 ** ((ratings[right] - ratings[left]) / 400))
        answer = "tie" if rng.random() < ties else ("left" if rng.random() < chance else "right")
        made.append(Comparison(f"r{rng.integers(raters)}", f"p{rng.integers(prompts)}", left, right, answer))
    return made


def test_planted_ratings_are_recovered():
    planted = {"f0": 1459.0, "f1": 1537.0, "magi": 1434.0, "ours": 1570.0}
    found = rate(simulate(planted, 20_000, seed=1), METHODS, orders=2, resamples=20)
    assert [rating.method for rating in found] == ["ours", "f1", "f0", "magi"]
    assert [rating.rank for rating in found] == [1, 2, 3, 4]
    for rating in found:
        assert rating.bradley_terry == pytest.approx(planted[rating.method], abs=12)


def test_the_intervals_hold_the_truth_about_as_often_as_they_say():
    planted = {"a": 1400.0, "b": 1480.0, "c": 1620.0}
    held = [
        rating.low <= planted[rating.method] <= rating.high
        for seed in range(60)
        for rating in rate(simulate(planted, 300, seed), tuple(planted), orders=2, resamples=200, seed=seed)
    ]
    assert 0.88 <= np.mean(held) <= 1.0


def test_the_intervals_shrink_with_more_votes():
    planted = {"a": 1450.0, "b": 1550.0}
    few, many = (
        rate(simulate(planted, count, 3, raters=40, prompts=40), ("a", "b"), orders=2, resamples=200)[0]
        for count in (60, 2000)
    )
    assert many.high - many.low < 0.4 * (few.high - few.low)


def test_votes_of_one_opinionated_rater_do_not_count_as_many_opinions():
    """The same 100 wins from one rater or from twenty: only the latter are evidence about people."""
    lone = [Comparison("r0", f"p{i}", "a", "b", "left") for i in range(100)]
    lone += [Comparison(f"r{1 + i % 20}", f"p{i}", "a", "b", "right") for i in range(60)]
    shared = [Comparison(f"r{i % 21}", vote.prompt, vote.left, vote.right, vote.answer) for i, vote in enumerate(lone)]
    widths = [
        (found := rate(given_votes, ("a", "b"), orders=2, resamples=400)[0]).high - found.low
        for given_votes in (lone, shared)
    ]
    assert widths[0] > 1.5 * widths[1]


@given(votes(least=1), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_bradley_terry_does_not_know_the_order_of_the_votes(given_votes, random):
    shuffled = random.sample(given_votes, len(given_votes))
    here, there = (bradley_terry(win_matrix(v, METHODS), prior=0.1) for v in (given_votes, shuffled))
    np.testing.assert_allclose(here, there, atol=1e-6)


def test_elo_depends_on_the_order_and_its_spread_is_shown():
    given_votes = simulate({"a": 1450.0, "b": 1550.0, "c": 1500.0}, 600, seed=0)
    assert not np.allclose(elo_k32(given_votes, ("a", "b", "c")), elo_k32(given_votes[::-1], ("a", "b", "c")))
    for rating in rate(given_votes, ("a", "b", "c"), orders=500, resamples=20):
        assert 25 < rating.elo_sd < 60
        assert rating.elo_mean == pytest.approx(rating.bradley_terry, abs=12)


@given(votes())
@settings(max_examples=40, deadline=None)
def test_elo_gives_nothing_and_takes_nothing(given_votes):
    assert elo_k32(given_votes, METHODS).sum() == pytest.approx(1500 * len(METHODS))


@given(votes())
@settings(max_examples=40, deadline=None)
def test_elo_is_the_textbook_loop(given_votes):
    ratings = dict.fromkeys(METHODS, 1500.0)
    for vote in given_votes:
        if vote.answer == "both_bad":
            continue
        expected = 1 / (1 + 10 ** ((ratings[vote.right] - ratings[vote.left]) / 400))
        gain = 32 * ({"left": 1, "right": 0, "tie": 0.5}[vote.answer] - expected)
        ratings[vote.left] += gain
        ratings[vote.right] -= gain
    np.testing.assert_allclose(elo_k32(given_votes, METHODS), [ratings[name] for name in METHODS])


@given(votes(least=1), st.permutations(METHODS))
@settings(max_examples=40, deadline=None)
def test_other_names_give_the_same_ratings_under_other_names(given_votes, names):
    renamed_as = dict(zip(METHODS, names, strict=True))
    renamed = [Comparison(v.rater, v.prompt, renamed_as[v.left], renamed_as[v.right], v.answer) for v in given_votes]
    for ratings in (elo_k32, lambda v, m: bradley_terry(win_matrix(v, m), prior=0.1)):
        before = dict(zip(METHODS, ratings(given_votes, METHODS), strict=True))
        after = dict(zip(METHODS, ratings(renamed, METHODS), strict=True))
        assert all(after[renamed_as[name]] == pytest.approx(before[name], abs=1e-6) for name in METHODS)
    assert agreement(renamed) == pytest.approx(agreement(given_votes), nan_ok=True)


@given(votes(least=1))
@settings(max_examples=40, deadline=None)
def test_changing_the_sides_changes_no_rating_and_no_agreement(given_votes):
    other = [mirrored(vote) for vote in given_votes]
    np.testing.assert_allclose(win_matrix(given_votes, METHODS), win_matrix(other, METHODS))
    np.testing.assert_allclose(elo_k32(given_votes, METHODS), elo_k32(other, METHODS))
    np.testing.assert_equal(agreement(given_votes), agreement(other))


@given(votes(least=1))
@settings(max_examples=25, deadline=None)
def test_bradley_terry_is_the_maximum_of_its_likelihood(given_votes):
    wins, prior = win_matrix(given_votes, METHODS), 0.1
    best = bradley_terry(wins, prior)

    def likelihood(ratings: np.ndarray) -> float:
        gap = (ratings[:, None] - ratings[None]) * math.log(10) / 400
        padded = wins + prior / 2 * (1 - np.eye(len(METHODS)))
        return float(-(padded * np.log1p(np.exp(-gap))).sum())

    for direction in np.eye(len(METHODS)):
        assert likelihood(best) >= likelihood(best + 0.5 * direction) - 1e-9
        assert likelihood(best) >= likelihood(best - 0.5 * direction) - 1e-9


def test_an_unbeaten_method_stays_finite_and_first():
    found = rate([Comparison("r", f"p{i}", "a", "b", "left") for i in range(500)], ("a", "b"), resamples=50, orders=5)
    assert found[0].method == "a"
    assert 1500 < found[0].bradley_terry < 4000


def test_both_bad_is_counted_and_rates_nobody():
    bad = [Comparison("r", "p", "a", "b", "both_bad")] * 7
    for rating in rate(bad, ("a", "b"), resamples=10, orders=3):
        assert (rating.votes, rating.both_bad) == (0, 7)
        assert rating.bradley_terry == rating.elo == rating.elo_mean == 1500
    assert win_matrix(bad, ("a", "b")).sum() == 0


def test_without_a_vote_all_share_the_first_rank():
    assert [rating.rank for rating in rate([], ("a", "b", "c"), resamples=10, orders=3)] == [1, 1, 1]


def _table(*rows: str) -> np.ndarray:
    return np.array([[-1 if cell in ".*" else int(cell) for cell in row.split()] for row in rows])


@pytest.mark.parametrize(
    ("values", "alpha"),
    [
        # Krippendorff (2011), section C: four observers, twelve units
        (
            _table(
                "1 2 3 3 2 1 4 1 2 . . .",
                "1 2 3 3 2 2 4 1 2 5 . 3",
                ". 3 3 3 2 3 4 2 2 5 1 .",
                "1 2 3 3 2 4 4 1 2 5 1 .",
            ),
            0.743,
        ),
        # his section D in "Content Analysis": three coders, fifteen units
        (
            _table("* * * * * 3 4 1 2 1 1 3 3 * 3", "1 * 2 1 3 3 4 3 * * * * * * *", "* * 2 1 3 4 4 * 2 1 1 3 3 * 4"),
            0.691,
        ),
    ],
)
def test_alpha_is_that_of_the_published_examples(values, alpha):
    assert krippendorff_alpha(values) == pytest.approx(alpha, abs=5e-4)


def test_alpha_is_one_for_raters_who_agree_and_about_zero_for_coins():
    opinions = np.random.default_rng(0).integers(0, 3, 400)
    assert krippendorff_alpha(np.stack([opinions] * 3)) == 1.0
    assert abs(krippendorff_alpha(np.random.default_rng(0).integers(0, 3, (4, 2000)))) < 0.03
    assert math.isnan(krippendorff_alpha(np.full((1, 5), 2)))


def test_agreement_sees_methods_and_not_sides():
    one = [Comparison("r1", f"p{i}", "a", "b", "left" if i % 2 else "right") for i in range(6)]
    other = [Comparison("r2", v.prompt, v.left, v.right, v.answer) for v in one]
    assert agreement(one + [mirrored(vote) for vote in other]) == 1.0


def test_a_bias_for_a_side_shows():
    biased = [Comparison("r", f"p{i}", *(("a", "b") if i % 2 else ("b", "a")), "left") for i in range(90)]
    fair = [*biased[:50], *(Comparison("r", f"q{i}", "a", "b", "right") for i in range(50))]
    assert left_share(biased).low > 0.9
    assert left_share(fair).low < 0.5 < left_share(fair).high


def test_a_share_of_nothing_is_unknown():
    assert math.isnan(share(0, 0).value)
    assert (share(0, 0).low, share(0, 0).high) == (0.0, 1.0)
    assert share(3, 30).low == pytest.approx(0.0346, abs=2e-3)  # Wilson, from a table
