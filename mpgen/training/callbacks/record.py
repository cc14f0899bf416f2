"""What a checkpoint says beside the weights: the config that made it, and the states of the random generators."""

import random
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch


class Record(pl.Callback):
    """Puts the resolved config and rank 0's random generators into every checkpoint, and takes the generators back.

    Training draws from none of them, see `mpgen.training.noise`; a forcing or a callback of yours may.

    Args:
        config: gives YAML that `mpgen fit --config` takes.
    """

    def __init__(self, config: Callable[[], str]):
        self.config = config

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        name, keys, *position = np.random.get_state()  # noqa: NPY002 - the global generator is what others draw from
        checkpoint["config"] = self.config()
        checkpoint["random"] = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *position],
            "python": list(random.getstate()),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if "random" not in checkpoint:  # written by another program than the command line
            return
        states = checkpoint["random"]
        torch.set_rng_state(states["torch"])
        if len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states["cuda"])
        name, keys, *position = states["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002
        version, inner, gauss = states["python"]
        random.setstate((version, tuple(inner), gauss))
