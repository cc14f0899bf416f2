"""Hands out the groups of a plan, rank by rank, and can start in the middle of an epoch.

Why not Lightning's own way: it asks for an iterator before it says which epoch it is, and it does not restore a
loader's state when the number of batches was read earlier. So the loader starts late, at its first batch, and its
position is kept by the data module.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from mpgen.data.curriculum import Group
from mpgen.data.dataset import VideoBatch


class GroupSampler(DistributedSampler[Group]):
    """This rank's share of every group of an epoch; a `DistributedSampler` because Lightning leaves such a one alone.

    Args:
        dataset: for the base class.
        plan: the groups of an epoch.
        world_size: number of ranks.
        rank: this one.
        on_epoch: called with the epoch when it is about to start.
    """

    def __init__(
        self,
        dataset: Dataset,
        plan: Callable[[int], Sequence[Group]],
        world_size: int,
        rank: int,
        on_epoch: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=False)
        self.plan = plan
        self.on_epoch = on_epoch
        self.start = 0  # groups of the epoch that are done already

    def __len__(self) -> int:
        return len(self.plan(self.epoch))

    def __iter__(self) -> Iterator[Group]:
        for group in self.plan(self.epoch)[self.start :]:
            yield replace(group, items=group.items[self.rank :: self.num_replicas])

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.on_epoch(epoch)


class ResumableLoader(DataLoader[VideoBatch]):
    """A loader of whole batches whose epoch begins at the first batch taken, not when the iterator is made.

    `begun_epoch` is the epoch of the batches handed out last, `resume` a position for the epoch of that number only.
    The length is always that of the full epoch.
    """

    begun_epoch = 0
    resume: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[VideoBatch]:
        sampler = self.sampler
        assert isinstance(sampler, GroupSampler)
        sampler.start = self.resume[1] if self.resume is not None and self.resume[0] == sampler.epoch else 0
        self.resume = None
        self.begun_epoch = sampler.epoch
        yield from super().__iter__()

    def state_dict(self) -> dict:
        """Nothing: the data module keeps the position. Lightning warns of loaders that have no such method."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        assert not state
