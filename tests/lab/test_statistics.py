"""Intervals over videos and seeds together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpgen.lab.statistics import difference, interval

SHARES = st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=12)


def asked(*seeds):
    return {seed: {f"video {i}": float(value) for i, value in enumerate(values)} for seed, values in enumerate(seeds)}


@given(SHARES, st.integers(1, 3))
def test_an_interval_holds_the_mean_and_equal_seeds_tell_nothing_new(values, seeds):
    found, one = interval(asked(*[values] * seeds)), interval(asked(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    assert (found.videos, found.seeds) == (len(values), seeds)
    assert (found.low, found.high) == pytest.approx((one.low, one.high))


def test_seeds_that_differ_widen_it():
    alike, apart = interval(asked([0, 1] * 20, [1, 0] * 20)), interval(asked([0] * 40, [1] * 40))
    assert (apart.low, apart.high) == (0, 1)
    assert 0.3 < alike.low < alike.mean == 0.5 < alike.high < 0.7


def test_more_videos_narrow_it():
    few, many = interval(asked([0, 1] * 5)), interval(asked([0, 1] * 80))
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_a_difference_is_paired_by_video_and_seed():
    own, other = asked([1, 0, 1, 0], [0, 1, 1, 0]), asked([0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 1, 1])
    found = difference(own, other)
    assert found.mean == pytest.approx(0.25)
    assert (found.videos, found.seeds) == (4, 2)
    assert found.low >= 0  # own is never worse
    assert difference(own, own) == pytest.approx(difference(own, own))
    assert str(difference(own, own)) == "0.00 [0.00, 0.00]"


def test_what_was_not_asked_does_not_count():
    assert interval({}) is None
    assert interval({0: {}}) is None
    assert difference(asked([1.0]), {1: {"video 0": 1.0}}) is None
    assert interval({0: {"a": 1.0}, 1: {"b": 0.0}}).mean == 0.5
