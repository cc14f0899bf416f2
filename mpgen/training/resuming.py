"""What a resumed run takes from its config and not from the checkpoint: settings of optimizer and schedule.

A checkpoint of another network or optimizer is refused. Lightning restores learning rate, betas, weight decay and
schedule with the optimizer's state, so what the user changed would silently not count. Here the config wins, and what
changed is said.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mpgen.checkpoints.sources import PREFIX
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError
from mpgen.training.checkpointing import Found
from mpgen.training.optimizers import AdamW8bit
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


def check_fits(found: Found, described: Denoiser, trained_by: tuple[Optimizer, LRScheduler] | None) -> None:
    """A run goes on only with the same network, the same trained parameters, and an optimizer that knows the state.

    Args:
        found: the checkpoint.
        described: the run's network, without memory.
        trained_by: the run's optimizer, of a number for each parameter, and its schedule; None where nothing trains.

    Raises:
        UserError: it does not fit.
    """
    path, checkpoint = found.path, found.content
    saved = {name: list(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
    wanted = {PREFIX + name: list(tensor.shape) for name, tensor in described.state_dict().items()}
    trained = {PREFIX + name for name, weight in described.named_parameters() if weight.requires_grad}
    left_out = {*wanted} - trained - {*saved} if "base" in checkpoint["mpgen"] else set()
    for name in sorted({*saved, *wanted} - left_out):
        if saved.get(name) != wanted.get(name):
            raise UserError(
                f"{path} does not fit the model: {name} is {saved.get(name, 'absent')} there, "
                f"wanted {wanted.get(name, 'absent')}\n"
                "use the model of that run, or begin another run (--run) from its weights (model.init_from)"
            )
    if trained_by is None:
        return
    optimizer, scheduler = trained_by
    state = checkpoint["optimizer_states"][0]
    same_groups = [len(g["params"]) for g in state["param_groups"]] == [
        len(g["params"]) for g in optimizer.param_groups
    ]
    if not same_groups or _state_names(optimizer) not in (
        None,
        {name for each in state["state"].values() for name in each},
    ):
        raise UserError(
            f"{path} was made with another model.optimizer or model.train\n"
            "use those of that run, or begin another run (--run) from its weights (model.init_from)"
        )
    own = Settings.of(optimizer, scheduler).schedule.keys() - {"base_lrs"}
    if own and not own & checkpoint["lr_schedulers"][0].keys():
        raise UserError(
            f"{path} was made with another model.lr_scheduler than {type(scheduler).__name__}\n"
            "use that of that run, or begin another run (--run) from its weights (model.init_from)"
        )


def _state_names(optimizer: Optimizer) -> set[str] | None:
    """What the optimizer keeps of parameters after a step; None where only a GPU can say it."""
    if isinstance(optimizer, AdamW8bit):
        return None
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {name for state in optimizer.state.values() for name in state}
