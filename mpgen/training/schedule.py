"""The learning rate over the steps."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mpgen.errors import UserError


class WarmupCosine(LRScheduler):
    """Rises in a line, stays for a while, then falls along half a cosine to a fraction of the peak.

    Args:
        optimizer: whose learning rate is the peak.
        warmup_steps: length of the rise.
        total_steps: when the fall ends; the rate stays there.
        final_fraction: of the peak, at the end; 1 keeps the peak.
        hold_steps: how long it stays at the peak, so that a last stage of training begins there.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int = 100,
        total_steps: int = 10_000,
        final_fraction: float = 0.1,
        hold_steps: int = 0,
    ):
        if min(warmup_steps, hold_steps) < 0 or total_steps < 1 or not 0 <= final_fraction < math.inf:
            raise UserError(
                f"model.lr_scheduler: warmup_steps {warmup_steps}, hold_steps {hold_steps}, total_steps {total_steps}, "
                f"final_fraction {final_fraction:g}: wanted none below 0, and at least 1 step in all"
            )
        self.warmup_steps = warmup_steps
        self.hold_steps = hold_steps
        self.total_steps = total_steps
        self.final_fraction = final_fraction
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [peak * self.factor(self.last_epoch) for peak in self.base_lrs]

    def factor(self, step: int) -> float:
        """What the peak is multiplied with."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        begin = self.warmup_steps + self.hold_steps
        progress = min(max(step - begin, 0) / max(self.total_steps - begin, 1), 1.0)
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
