"""The learning rate over the updates."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupCosine(LRScheduler):
    """Rises in a line, stays for a while, then falls along half a cosine to a fraction of the peak.

    Args:
        optimizer: whose learning rate is the peak.
        warmup_updates: length of the rise.
        total_updates: when the fall ends; the rate stays there.
        final_fraction: of the peak, at the end; 1 keeps the peak.
        hold_updates: how long it stays at the peak, so that a last stage of training begins there.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_updates: int = 100,
        total_updates: int = 10_000,
        final_fraction: float = 0.1,
        hold_updates: int = 0,
    ):
        self.warmup_updates = warmup_updates
        self.hold_updates = hold_updates
        self.total_updates = total_updates
        self.final_fraction = final_fraction
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [peak * self.factor(self.last_epoch) for peak in self.base_lrs]

    def factor(self, update: int) -> float:
        """What the peak is multiplied with."""
        if update < self.warmup_updates:
            return (update + 1) / self.warmup_updates
        begin = self.warmup_updates + self.hold_updates
        progress = min(max(update - begin, 0) / max(self.total_updates - begin, 1), 1.0)
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
