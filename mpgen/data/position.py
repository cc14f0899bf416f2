"""Where a run is in its plan, and where that is with other batches: every video is trained on, hardly any twice."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """So many groups of an epoch are done.

    Args:
        epoch: the one begun last.
        batch: its groups that are done.
        num_batches: its groups in all.
    """

    epoch: int
    batch: int
    num_batches: int

    @property
    def finished(self) -> bool:
        """Whether the epoch has no group left."""
        return self.batch >= self.num_batches

    def regrouped(self, group_size: int, new_group_size: int, new_num_batches: int) -> "Position":
        """The position with groups of another size: behind no video that was not trained on.

        A finished epoch stays finished, whatever the new groups would leave of it; an unfinished one has at least one
        group left, so the epoch ends by being trained to its end.
        """
        if self.finished:
            return Position(self.epoch, new_num_batches, new_num_batches)
        done = self.batch * group_size // new_group_size
        return Position(self.epoch, min(done, new_num_batches - 1), new_num_batches)

    @property
    def next_batch(self) -> tuple[int, int]:
        """Epoch and number of the group to train on next."""
        return (self.epoch + 1, 0) if self.finished else (self.epoch, self.batch)
