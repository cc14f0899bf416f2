"""An exponential moving average of the weights that train."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from mpgen.errors import UserError
from mpgen.training.parallel import placed_like


class EMA(pl.Callback):
    """Keeps a running average of the trained weights; frozen ones are not copied.

    Lightning's own averaging doubles the checkpoint by the frozen weights too and cannot average sharded ones.

    Args:
        decay: weight of the past in each step, in [0, 1); early on it is (1 + steps) / (10 + steps), if smaller.
        on_host: keeps the average in host memory: on the GPU it needs none, and each step copies all that trains there.
    """

    def __init__(self, decay: float = 0.999, on_host: bool = False):
        if not 0 <= decay < 1:
            raise UserError(f"EMA: decay {decay:g}: wanted 0 or more, and less than 1")
        self.decay = decay
        self.on_host = on_host
        self.steps = 0
        self.shadow: dict[str, Tensor] = {}

    @property
    def state_key(self) -> str:
        return "EMA"

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "shadow": self.shadow}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict["steps"]
        self.shadow = state_dict["shadow"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        weights = _trained(pl_module)
        if self.shadow:
            self.shadow = {name: placed_like(tensor, weights[name]) for name, tensor in self.shadow.items()}
        else:
            self.shadow = {name: weight.detach().clone() for name, weight in weights.items()}
        if self.on_host:
            self.shadow = {name: tensor.cpu() for name, tensor in self.shadow.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        weights = _trained(pl_module)
        now = [weights[name].to(average.device) for name, average in self.shadow.items()]
        torch._foreach_lerp_(list(self.shadow.values()), now, 1 - decay)

    @contextmanager
    def averaged(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """The module with the averaged weights in place of its own."""
        own = {name: weight.detach().clone() for name, weight in _trained(pl_module).items()}
        _assign(pl_module, self.shadow)
        try:
            yield
        finally:
            _assign(pl_module, own)


def _trained(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: p for name, p in pl_module.denoiser.named_parameters() if p.requires_grad}


@torch.no_grad()
def _assign(pl_module: pl.LightningModule, values: dict[str, Tensor]) -> None:
    weights = _trained(pl_module)
    for name, value in values.items():
        weights[name].copy_(value)
