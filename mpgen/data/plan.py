"""The curriculum (§6.4): which videos make a batch, and in which order; pure functions of integers.

A *group* is one update's worth of videos over all ranks, every one with the same number of sections, because ranks run
in lock step. Videos that do not fill a group of their own length are shortened by a section and join the next shorter
ones, so next to nothing is lost. Nothing here depends on the rank: rank r takes `items[r::world_size]` of each group,
so the order of videos is the same for one rank with a batch of 4 and for two with 2.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpgen.errors import UserError


@dataclass(frozen=True)
class Group:
    """Videos of one update: `items` are positions in the data set, each used for its first `num_sections` sections."""

    num_sections: int
    items: tuple[int, ...]


class Curriculum(ABC):
    """An order of groups for one epoch."""

    @abstractmethod
    def groups(self, section_counts: Sequence[int], group_size: int, seed: int, epoch: int) -> tuple[Group, ...]:
        """Groups of `group_size` videos each, see `plan_epoch`."""


@dataclass(frozen=True)
class Sorted(Curriculum):
    """Short videos first, in every epoch (§6.4): one section, which is image-to-video, then longer and longer ones."""

    def groups(self, section_counts: Sequence[int], group_size: int, seed: int, epoch: int) -> tuple[Group, ...]:
        return cut_into_groups(section_counts, group_size, (seed, epoch))


@dataclass(frozen=True)
class Shuffled(Curriculum):
    """No curriculum: the groups of an epoch in random order."""

    def groups(self, section_counts: Sequence[int], group_size: int, seed: int, epoch: int) -> tuple[Group, ...]:
        return _shuffled(cut_into_groups(section_counts, group_size, (seed, epoch)), (seed, epoch))


@dataclass(frozen=True)
class Staged(Curriculum):
    """Stages of so many updates, each with videos cut to so many sections; the whole run is one epoch.

    Inside a stage all videos come in random order, over and over.

    Args:
        stages: (max_sections, updates) of each stage.
    """

    stages: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.stages or any(max_sections < 1 or updates < 1 for max_sections, updates in self.stages):
            raise UserError(f"stages {self.stages}: wanted pairs (max_sections, updates), each at least 1")

    def groups(self, section_counts: Sequence[int], group_size: int, seed: int, epoch: int) -> tuple[Group, ...]:
        planned: list[Group] = []
        for stage, (max_sections, updates) in enumerate(self.stages):
            shortened = [min(count, max_sections) for count in section_counts]
            in_stage: list[Group] = []
            cycle = 0
            while len(in_stage) < updates:
                key = (seed, epoch, stage, cycle)
                in_stage += _shuffled(cut_into_groups(shortened, group_size, key), key)
                cycle += 1
            planned += in_stage[:updates]
        return tuple(planned)


def plan_epoch(
    section_counts: Sequence[int], *, world_size: int, batch_size: int, seed: int, epoch: int, curriculum: Curriculum
) -> tuple[Group, ...]:
    """All groups of an epoch, in order; each has exactly `world_size * batch_size` items.

    Args:
        section_counts: sections of each video, at least 1.
        world_size: number of ranks.
        batch_size: videos a rank takes in one update.
        seed: another seed gives another order.
        epoch: another epoch gives another order.
        curriculum: what comes first.
    """
    assert min(section_counts) >= 1, "every video has a section"
    return curriculum.groups(section_counts, world_size * batch_size, seed, epoch)


def plan_hash(uids: Sequence[str], section_counts: Sequence[int], seed: int, curriculum: Curriculum) -> str:
    """16 hex digits of what a plan depends on, besides the number of ranks and the batch size."""
    return hashlib.sha256(repr((tuple(uids), tuple(section_counts), seed, curriculum)).encode()).hexdigest()[:16]


def cut_into_groups(section_counts: Sequence[int], group_size: int, key: tuple[int, ...]) -> tuple[Group, ...]:
    """Every video in one group, shortest groups first; inside a length the order is drawn from `key`.

    From the longest down, what does not fill a group loses a section and joins the next shorter ones; what is left of
    one-section videos at the end is not used. Fewer videos than a group holds are cut to the shortest and repeated
    until they fill it.
    """
    if len(section_counts) < group_size:
        order = _permuted(list(range(len(section_counts))), (*key, 0))
        repeated = tuple(order[place % len(order)] for place in range(group_size))
        return (Group(min(section_counts), repeated),)
    by_length: dict[int, list[int]] = defaultdict(list)
    for item, count in enumerate(section_counts):
        by_length[count].append(item)
    longest_first: list[Group] = []
    for length in range(max(by_length), 0, -1):
        order = _permuted(sorted(by_length[length]), (*key, length))
        full = len(order) // group_size * group_size
        longest_first += [
            Group(length, tuple(order[first : first + group_size])) for first in range(0, full, group_size)
        ][::-1]
        if length > 1:
            by_length[length - 1] += order[full:]
    return tuple(longest_first[::-1])


def _permuted(items: list[int], key: tuple[int, ...]) -> list[int]:
    return [items[place] for place in np.random.default_rng(key).permutation(len(items))]


def _shuffled(groups: tuple[Group, ...], key: tuple[int, ...]) -> tuple[Group, ...]:
    return tuple(groups[place] for place in np.random.default_rng((*key, 0)).permutation(len(groups)))
