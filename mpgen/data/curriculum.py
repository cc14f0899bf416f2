"""The curriculum (§6.4): which videos make a batch, and in which order; pure functions of integers.

A *group* is one step's worth of videos over all ranks, every one with the same number of sections, because ranks run
in lock step. Videos that do not fill a group of their own length are shortened by a section and join the next shorter
ones, so next to nothing is lost. Nothing here depends on the rank: rank r takes `items[r::world_size]` of each group,
so the order of videos is the same for one rank with a batch of 4 and for two with 2. A plan is two arrays, so that a
million videos take a second.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import Int

from mpgen.errors import UserError


@dataclass(frozen=True)
class Group:
    """Videos of one step.

    Args:
        num_sections: each video is used for its first so many sections.
        items: positions in the data set.
        num_given: the first so many of them are not trained on, only remembered.
    """

    num_sections: int
    items: tuple[int, ...]
    num_given: int = 0

    @property
    def num_trained(self) -> int:
        """Sections of each video that have a loss."""
        return self.num_sections - self.num_given


@dataclass(frozen=True, eq=False)
class Groups(Sequence[Group]):
    """Groups in their order, each made when it is asked for.

    Args:
        num_sections: of each group.
        items: of each group, positions in the data set.
        num_given: of each group.
    """

    num_sections: Int[np.ndarray, " groups"]
    items: Int[np.ndarray, "groups size"]
    num_given: Int[np.ndarray, " groups"]

    @classmethod
    def of(cls, groups: Sequence[Group]) -> "Groups":
        """Groups of equal size, at least one."""
        parts = ((group.num_sections, group.items, group.num_given) for group in groups)
        return cls(*(np.array(part) for part in zip(*parts, strict=True)))

    @classmethod
    def joined(cls, parts: Sequence["Groups"]) -> "Groups":
        columns = zip(*((part.num_sections, part.items, part.num_given) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def __len__(self) -> int:
        return len(self.num_sections)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> "Groups": ...
    def __getitem__(self, index: int | slice) -> "Group | Groups":
        if isinstance(index, slice):
            return Groups(self.num_sections[index], self.items[index], self.num_given[index])
        items = tuple(self.items[index].tolist())
        return Group(int(self.num_sections[index]), items, int(self.num_given[index]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Groups):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)

    __hash__ = None  # arrays can change

    def shuffled(self, key: tuple[int, ...]) -> "Groups":
        """The same groups in an order drawn from `key`."""
        order = np.random.default_rng(key).permutation(len(self))
        return Groups(self.num_sections[order], self.items[order], self.num_given[order])


class Curriculum(ABC):
    """An order of groups for one epoch."""

    @abstractmethod
    def groups(self, section_counts: Int[np.ndarray, " videos"], group_size: int, seed: int, epoch: int) -> Groups:
        """Groups of `group_size` videos each, see `plan_epoch`."""

    def extent(self) -> tuple[int, float] | None:
        """Updates of an epoch, and at most how many sections one trains on, on average; None where videos decide."""
        return None


@dataclass(frozen=True)
class Sorted(Curriculum):
    """Short videos first, in every epoch (§6.4): one section, which is image-to-video, then longer and longer ones."""

    def groups(self, section_counts: Int[np.ndarray, " videos"], group_size: int, seed: int, epoch: int) -> Groups:
        return cut_into_groups(section_counts, group_size, (seed, epoch))


@dataclass(frozen=True)
class Shuffled(Curriculum):
    """No curriculum: the groups of an epoch in random order."""

    def groups(self, section_counts: Int[np.ndarray, " videos"], group_size: int, seed: int, epoch: int) -> Groups:
        return cut_into_groups(section_counts, group_size, (seed, epoch)).shuffled((seed, epoch, 0))


@dataclass(frozen=True)
class Staged(Curriculum):
    """Stages of so many steps, each with videos cut to so many sections; the whole run is one epoch.

    Inside a stage all videos come in random order, over and over.

    Args:
        stages: (max_sections, steps) of each stage.
    """

    stages: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.stages or any(max_sections < 1 or steps < 1 for max_sections, steps in self.stages):
            raise UserError(f"stages {self.stages}: wanted pairs (max_sections, steps), each at least 1")

    def extent(self) -> tuple[int, float]:
        steps = sum(length for _, length in self.stages)
        return steps, sum(sections * length for sections, length in self.stages) / steps

    def groups(self, section_counts: Int[np.ndarray, " videos"], group_size: int, seed: int, epoch: int) -> Groups:
        return Groups.joined(
            [
                _over_and_over(np.minimum(section_counts, max_sections), group_size, steps, (seed, epoch, stage))
                for stage, (max_sections, steps) in enumerate(self.stages)
            ]
        )


@dataclass(frozen=True)
class Excerpts(Curriculum):
    """Stages of so many steps, each trained on a few sections somewhere in its videos; the whole run is one epoch.

    The sections before are given as they are, to history and memory, without a pass of the backbone. With one section
    at a time this is FramePack's own training: sections drawn by themselves, with true history.

    Args:
        stages: (fewest sections, most sections, how many of them are trained, steps) of each stage; where a video is
            cut is drawn evenly.
    """

    stages: tuple[tuple[int, int, int, int], ...]

    def __post_init__(self) -> None:
        if not self.stages or any(min(stage) < 1 or stage[0] > stage[1] for stage in self.stages):
            raise UserError(
                f"stages {self.stages}: wanted (fewest sections, most sections, trained sections, steps), "
                "each at least 1, the fewest no more than the most"
            )

    def extent(self) -> tuple[int, float]:
        steps = sum(length for *_, length in self.stages)
        return steps, sum(min(most, trained) * length for _, most, trained, length in self.stages) / steps

    def groups(self, section_counts: Int[np.ndarray, " videos"], group_size: int, seed: int, epoch: int) -> Groups:
        planned: list[Groups] = []
        for stage, (fewest, most, trained, steps) in enumerate(self.stages):
            key = (seed, epoch, stage)
            whole = _over_and_over(np.minimum(section_counts, most), group_size, steps, key)
            shortest = np.minimum(max(fewest, trained), whole.num_sections)
            ends = np.random.default_rng((*key, 1)).integers(shortest, whole.num_sections + 1)
            planned.append(Groups(ends, whole.items, np.maximum(ends - trained, 0)))
        return Groups.joined(planned)


def _over_and_over(
    section_counts: Int[np.ndarray, " videos"], group_size: int, steps: int, key: tuple[int, ...]
) -> Groups:
    """So many groups of all videos in random order, then in another one, until there are enough."""
    planned: list[Groups] = []
    while steps > 0:
        again = (*key, len(planned))
        planned.append(cut_into_groups(section_counts, group_size, again).shuffled((*again, 0))[:steps])
        steps -= len(planned[-1])
    return Groups.joined(planned)


def plan_epoch(
    section_counts: Sequence[int] | Int[np.ndarray, " videos"],
    *,
    world_size: int,
    batch_size: int,
    seed: int,
    epoch: int,
    curriculum: Curriculum,
) -> Groups:
    """All groups of an epoch, in order; each has exactly `world_size * batch_size` items.

    Args:
        section_counts: sections of each video, at least 1.
        world_size: number of ranks.
        batch_size: videos a rank takes in one step.
        seed: another seed gives another order.
        epoch: another epoch gives another order.
        curriculum: what comes first.
    """
    counts = np.asarray(section_counts)
    assert counts.min() >= 1, "every video has a section"
    return curriculum.groups(counts, world_size * batch_size, seed, epoch)


def plan_hash(uids: Sequence[str], section_counts: Sequence[int], seed: int, curriculum: Curriculum) -> str:
    """16 hex digits of what a plan depends on, besides the number of ranks and the batch size."""
    return hashlib.sha256(repr((tuple(uids), tuple(section_counts), seed, curriculum)).encode()).hexdigest()[:16]


def cut_into_groups(section_counts: Int[np.ndarray, " videos"], group_size: int, key: tuple[int, ...]) -> Groups:
    """Every video in one group, shortest groups first; inside a length the order is drawn from `key`.

    From the longest down, what does not fill a group loses a section and joins the next shorter ones; what is left of
    one-section videos at the end is not used. Fewer videos than a group holds are cut to the shortest and repeated
    until they fill it.
    """
    if len(section_counts) < group_size:
        order = np.random.default_rng((*key, 0)).permutation(len(section_counts))
        return Groups(np.array([section_counts.min()]), np.resize(order, (1, group_size)), np.array([0]))
    by_length = np.argsort(section_counts, kind="stable")
    longest = int(section_counts.max())
    ends = np.searchsorted(section_counts[by_length], np.arange(longest + 1), side="right")
    left_over = by_length[:0]
    longest_first: list[Groups] = []
    for length in range(longest, 0, -1):
        items = np.sort(np.concatenate([by_length[ends[length - 1] : ends[length]], left_over]))
        order = items[np.random.default_rng((*key, length)).permutation(len(items))]
        full = len(order) // group_size
        left_over = order[full * group_size :]
        items_of_groups = order[: full * group_size].reshape(full, group_size)
        longest_first.append(Groups(np.full(full, length), items_of_groups, np.zeros(full, int)))
    return Groups.joined(longest_first[::-1])


@dataclass(frozen=True)
class PlanSummary:
    """What a plan does with its videos.

    Args:
        steps: groups, one after the other.
        videos: seen in all; a video seen twice counts twice.
        sections: seen in all.
        shortened: videos seen with fewer sections than they have, each time counted.
        unused: videos never seen.
        repeated: videos seen more than once.
        steps_by_sections: how many groups there are of each number of sections, the shortest first.
    """

    steps: int
    videos: int
    sections: int
    shortened: int
    unused: int
    repeated: int
    steps_by_sections: dict[int, int]


def summarise_plan(groups: Groups, section_counts: Sequence[int] | Int[np.ndarray, " videos"]) -> PlanSummary:
    """Counts over the groups of an epoch, planned for videos of so many sections each."""
    counts = np.asarray(section_counts)
    lengths, steps = np.unique(groups.num_sections, return_counts=True)
    seen = np.bincount(groups.items.ravel(), minlength=len(counts))
    return PlanSummary(
        steps=len(groups),
        videos=groups.items.size,
        sections=int(groups.num_sections.sum()) * groups.items.shape[1],
        shortened=int((counts[groups.items] > groups.num_sections[:, None]).sum()),
        unused=int((seen == 0).sum()),
        repeated=int((seen > 1).sum()),
        steps_by_sections=dict(zip(lengths.tolist(), steps.tolist(), strict=True)),
    )
