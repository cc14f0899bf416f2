"""Laws of the curriculum, for any set of videos."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpgen.data.curriculum import (
    Curriculum,
    Excerpts,
    Group,
    Groups,
    Shuffled,
    Sorted,
    Staged,
    cut_into_groups,
    plan_epoch,
    plan_hash,
    summarise_plan,
)

COUNTS = st.lists(st.integers(1, 7), min_size=1, max_size=60)
SIZES = st.integers(1, 9)
STAGED = Staged(((1, 3), (4, 11), (9, 2)))
CURRICULA = st.sampled_from([Sorted(), Shuffled(), STAGED, Excerpts(((1, 3, 1, 4), (4, 9, 2, 5)))])
SEEDS = st.integers(0, 3)


def slow_groups(section_counts: list[int], group_size: int, key: tuple[int, ...]) -> list[Group]:
    """`cut_into_groups` as it is told, item by item."""

    def permuted(items: list[int], key: tuple[int, ...]) -> list[int]:
        return [items[place] for place in np.random.default_rng(key).permutation(len(items))]

    if len(section_counts) < group_size:
        order = permuted(list(range(len(section_counts))), (*key, 0))
        return [Group(min(section_counts), tuple(order[place % len(order)] for place in range(group_size)))]
    by_length = defaultdict(list)
    for item, count in enumerate(section_counts):
        by_length[count].append(item)
    longest_first = []
    for length in range(max(by_length), 0, -1):
        order = permuted(sorted(by_length[length]), (*key, length))
        full = len(order) // group_size * group_size
        groups = [Group(length, tuple(order[first : first + group_size])) for first in range(0, full, group_size)]
        longest_first += groups[::-1]
        if length > 1:
            by_length[length - 1] += order[full:]
    return longest_first[::-1]


@settings(deadline=None)
@given(COUNTS, SIZES, SEEDS)
def test_the_arrays_are_what_the_slow_listing_gives(counts, size, seed):
    assert list(cut_into_groups(np.array(counts), size, (seed, 5))) == slow_groups(counts, size, (seed, 5))


def plan(counts, size, seed=0, epoch=0, curriculum: Curriculum = Sorted()) -> Groups:  # noqa: B008
    return plan_epoch(counts, world_size=1, batch_size=size, seed=seed, epoch=epoch, curriculum=curriculum)


@settings(deadline=None)
@given(COUNTS, SIZES, SEEDS, SEEDS, CURRICULA)
def test_every_group_is_full_and_asks_for_no_more_than_there_is(counts, size, seed, epoch, curriculum):
    for group in plan(counts, size, seed, epoch, curriculum):
        assert len(group.items) == size
        assert 0 <= group.num_given < group.num_sections <= min(counts[item] for item in group.items)


@settings(deadline=None)
@given(COUNTS, SIZES, SEEDS, st.sampled_from([Sorted(), Shuffled()]))
def test_no_video_comes_twice_in_an_epoch_and_less_than_a_group_is_left_out(counts, size, seed, curriculum):
    seen = Counter(item for group in plan(counts, size, seed, 0, curriculum) for item in group.items)
    if len(counts) < size:
        assert set(seen) == set(range(len(counts)))
        assert max(seen.values()) - min(seen.values()) <= 1
    else:
        assert max(seen.values()) == 1
        assert len(counts) - len(seen) == len(counts) % size


@settings(deadline=None)
@given(COUNTS, SIZES, SEEDS)
def test_sorted_goes_from_short_to_long(counts, size, seed):
    lengths = [group.num_sections for group in plan(counts, size, seed)]
    assert lengths == sorted(lengths)


@settings(deadline=None)
@given(COUNTS, st.integers(1, 4), st.integers(1, 3), SEEDS, CURRICULA)
def test_the_order_of_videos_does_not_depend_on_the_number_of_ranks(counts, world_size, batch_size, seed, curriculum):
    def consumed(world_size: int, batch_size: int) -> list:
        groups = plan_epoch(
            counts, world_size=world_size, batch_size=batch_size, seed=seed, epoch=1, curriculum=curriculum
        )
        by_rank = [[group.items[rank::world_size] for group in groups] for rank in range(world_size)]
        return [sorted(sum(shares, ())) for shares in zip(*by_rank, strict=True)]

    assert consumed(world_size, batch_size) == consumed(1, world_size * batch_size)


@settings(deadline=None)
@given(st.lists(st.integers(1, 7), min_size=30, max_size=60), st.integers(2, 9))
def test_few_sections_are_lost_to_full_groups(counts, size):
    used = sum(group.num_sections * size for group in plan(counts, size))
    # a remainder smaller than a group moves down by one section at each length, and the last one is dropped
    assert sum(counts) - used <= (size - 1) * max(counts)


@settings(deadline=None)
@given(COUNTS, SIZES, SEEDS)
def test_only_what_does_not_fill_a_group_loses_a_section_at_a_time(counts, size, seed):
    groups = plan(counts, size, seed)
    if len(counts) < size:
        return
    steps = Counter(group.num_sections for group in groups)
    passed_down = 0
    for length in range(max(counts), 0, -1):
        here = counts.count(length) + passed_down
        assert steps[length] == here // size
        longer = sum(counts[item] > length for group in groups if group.num_sections == length for item in group.items)
        assert longer <= passed_down < size
        passed_down = here % size
    assert summarise_plan(groups, counts).unused == passed_down


@settings(deadline=None)
@given(COUNTS, st.integers(1, 4), st.integers(1, 3), SEEDS, CURRICULA)
def test_the_ranks_shares_are_the_group_and_nothing_else(counts, world_size, batch_size, seed, curriculum):
    groups = plan_epoch(counts, world_size=world_size, batch_size=batch_size, seed=seed, epoch=0, curriculum=curriculum)
    for group in groups:
        shares = [group.items[rank::world_size] for rank in range(world_size)]
        assert [len(share) for share in shares] == [batch_size] * world_size
        assert sorted(sum(shares, ())) == sorted(group.items)


@settings(deadline=None)
@given(COUNTS, SIZES, SEEDS, CURRICULA)
def test_the_summary_counts_what_the_groups_hold(counts, size, seed, curriculum):
    groups = plan(counts, size, seed, 0, curriculum)
    seen = [(item, group.num_sections) for group in groups for item in group.items]
    times = Counter(item for item, _ in seen)
    made = summarise_plan(groups, counts)
    assert (made.steps, made.videos) == (len(groups), len(seen))
    assert made.sections == sum(length for _, length in seen)
    assert made.shortened == sum(counts[item] > length for item, length in seen)
    assert made.unused == len(counts) - len(times)
    assert made.repeated == sum(number > 1 for number in times.values())
    assert made.steps_by_sections == dict(sorted(Counter(group.num_sections for group in groups).items()))


def test_groups_are_a_sequence():
    groups = plan([1, 2, 1, 2, 3, 3], 2)
    assert len(groups) == len(list(groups)) == 3
    assert groups[1:] == Groups.of(list(groups)[1:])
    assert groups[1:] != groups[:2]
    assert (groups[-1], groups[0].num_sections) == (list(groups)[2], 1)
    assert isinstance(groups[0].items[0], int)


def test_a_remainder_joins_the_next_shorter_videos():
    groups = plan([3, 3, 3, 2], 2)
    assert [group.num_sections for group in groups] == [2, 3]
    assert 3 in groups[0].items


def test_every_epoch_and_seed_has_its_own_order_and_repeats_it():
    counts = [1, 2] * 20
    assert plan(counts, 4, seed=1, epoch=2) == plan(counts, 4, seed=1, epoch=2)
    orders = {tuple(plan(counts, 4, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_shuffled_mixes_lengths():
    lengths = [group.num_sections for group in plan([1] * 40 + [2] * 40, 4, curriculum=Shuffled())]
    assert lengths != sorted(lengths)
    assert Counter(lengths) == {1: 10, 2: 10}


def test_a_stage_has_its_steps_and_cuts_videos_to_its_sections():
    groups = plan([2, 5, 5, 3, 4, 5, 5, 5], 2, curriculum=Staged(((1, 5), (3, 7))))
    assert [group.num_sections for group in groups[:5]] == [1] * 5
    assert len(groups) == 12
    assert {group.num_sections for group in groups[5:]} == {2, 3}


def test_a_stage_shows_every_video_before_any_again():
    groups = plan([3] * 6, 2, curriculum=Staged(((2, 6),)))
    first, second = groups[:3], groups[3:]
    for cycle in (first, second):
        assert sorted(item for group in cycle for item in group.items) == list(range(6))
    assert first != second


@settings(deadline=None)
@given(COUNTS, SIZES, SEEDS, st.integers(1, 4))
def test_an_excerpt_trains_so_many_sections_of_the_videos_a_stage_has(counts, size, seed, trained):
    staged = plan(counts, size, seed, 0, Staged(((6, 9),)))
    excerpts = plan(counts, size, seed, 0, Excerpts(((3, 6, trained, 9),)))
    assert len(excerpts) == 9
    for whole, excerpt in zip(staged, excerpts, strict=True):
        assert excerpt.items == whole.items
        assert excerpt.num_trained == min(trained, whole.num_sections)
        assert excerpt.num_sections >= min(3, whole.num_sections)


def test_a_curriculum_of_stages_knows_how_long_it_is():
    assert STAGED.extent() == (16, (1 * 3 + 4 * 11 + 9 * 2) / 16)
    assert Excerpts(((1, 3, 1, 4), (1, 2, 5, 4))).extent() == (8, 1.5)
    assert Sorted().extent() is None


def test_excerpts_are_cut_everywhere_equally_often():
    groups = plan([6] * 8, 2, curriculum=Excerpts(((1, 5, 2, 400),)))
    often = Counter(group.num_given for group in groups)
    assert sorted(often) == [0, 1, 2, 3]
    assert min(often.values()) > 70


@pytest.mark.parametrize("stages", [(), ((1, 3, 0, 1),), ((4, 3, 1, 1),)])
def test_an_empty_excerpt_is_refused(stages):
    with pytest.raises(ValueError, match="trained sections"):
        Excerpts(stages)


@pytest.mark.parametrize("stages", [(), ((0, 3),), ((2, 0),)])
def test_an_empty_stage_is_refused(stages):
    with pytest.raises(ValueError, match="max_sections, steps"):
        Staged(stages)


def test_the_hash_tells_plans_apart():
    hashes = {
        plan_hash(uids, counts, seed, curriculum)
        for uids in (["a", "b"], ["a", "c"])
        for counts in ([1, 2], [2, 2])
        for seed in (0, 1)
        for curriculum in (Sorted(), Shuffled())
    }
    assert len(hashes) == 16
