"""What a resumed run takes from its config and not from the checkpoint: settings of optimizer and schedule.

Lightning restores learning rate, betas, weight decay and schedule with the optimizer's state, so what the user changed
would silently not count. Here the config wins, and what changed is said.
"""

import inspect
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mpgen.training.schedule import WarmupCosine

_STATE = ("params", "lr")  # of a parameter group; the learning rate follows from the schedule


@dataclass(frozen=True)
class Settings:
    """Hyperparameters as the config has them.

    Args:
        groups: of each parameter group.
        schedule: of the learning rate.
    """

    groups: tuple[dict[str, Any], ...]
    schedule: dict[str, Any]

    @classmethod
    def of(cls, optimizer: Optimizer, scheduler: LRScheduler) -> "Settings":
        groups = tuple(
            {key: value for key, value in group.items() if key not in _STATE} for group in optimizer.param_groups
        )
        named = {*inspect.signature(type(scheduler)).parameters, "base_lrs"} - {"last_epoch", "optimizer"}
        return cls(groups, {key: value for key, value in scheduler.state_dict().items() if key in named})

    def apply(self, optimizer: Optimizer, scheduler: LRScheduler) -> list[str]:
        """Sets them again after a restore; returns what differed, a line each."""
        restored = Settings.of(optimizer, scheduler)
        changed: dict[str, str] = {}
        for number, (own, before) in enumerate(zip(self.groups, restored.groups, strict=True)):
            which = f" of group {number}" if len(self.groups) > 1 else ""
            for key, value in own.items():
                if before.get(key) != value:
                    name = "learning rate" if key == "initial_lr" else key
                    changed[name + which] = f"{name}{which}: {before.get(key)} -> {value}"
        for key, value in self.schedule.items():
            if restored.schedule.get(key) != value and key != "base_lrs":
                changed[key] = f"{key}: {restored.schedule.get(key)} -> {value}"
        rates = [group["initial_lr"] for group in restored.groups]
        for group, own, before in zip(optimizer.param_groups, self.groups, rates, strict=True):
            group.update(own)
            group["lr"] *= own["initial_lr"] / before
        scheduler.load_state_dict(scheduler.state_dict() | self.schedule)
        if changed and isinstance(scheduler, WarmupCosine):
            for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
                group["lr"] = rate
        return list(changed.values())
