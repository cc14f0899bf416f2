"""The end of a fit lies on the disk, whatever the interval of saving; restored callbacks keep to their config."""

import inspect
import os
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from mpgen.training.callbacks.preemption import last_checkpoint
from mpgen.training.checkpointing import LAST


class FinalState(pl.Callback):
    """Saves `last.ckpt` when a fit ends between two saves, and lets `last.ckpt` be one file wherever the run lies.

    Lightning saves every so many steps and not at the end; in a copied run folder it would write `last-v1.ckpt` beside
    the old `last.ckpt`, from which the same command would go on. Where a limit of steps ends a fit amid an epoch, it
    would save the epoch as finished, and the rest of it would never be trained. It also restores settings of callbacks,
    such as the patience of EarlyStopping, over what the config says.
    """

    def __init__(self) -> None:
        self.first_step: int | None = None
        self.settings: list[tuple[pl.Callback, dict[str, Any]]] = []
        self.after_step: dict[str, Any] | None = (
            None  # the loop's progress, which at the end calls every epoch finished
        )
        self.ending = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.settings = [(c, _settings(c)) for c in trainer.callbacks if not isinstance(c, Checkpoint)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.first_step = trainer.global_step
        for saver in _savers(trainer):
            path = os.path.join(saver.dirpath or "", LAST)  # as Lightning spells it
            if saver.save_last and os.path.exists(path):
                saver.last_model_path = path
        for callback, own in self.settings:
            restored = _settings(callback)
            for name, value in own.items():
                if restored[name] != value:
                    setattr(callback, name, value)
                    rank_zero_info(
                        f"the config differs from the checkpoint and counts from here on: "
                        f"{type(callback).__name__}.{name}: {restored[name]} -> {value}"
                    )

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.after_step = trainer.fit_loop.state_dict()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Amid an epoch: Lightning calls it finished as soon as a limit of steps ends the fit."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        if self.after_step is not None and done < trainer.num_training_batches:
            checkpoint["loops"]["fit_loop"] = self.after_step

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        savers = _savers(trainer)
        keepers = [saver for saver in savers if saver.save_last] or savers
        done = {self.first_step, *(saver._last_global_step_saved for saver in keepers)}
        if not savers or self.first_step is None or trainer.fast_dev_run or trainer.global_step in done:
            return
        path = str(last_checkpoint(trainer))
        keepers[0].last_model_path = path  # before saving, for it is part of the state
        trainer.save_checkpoint(path)


def _savers(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.save_top_k != 0]


def _settings(callback: pl.Callback) -> dict[str, Any]:
    """The plain arguments that it was made with, where it keeps them."""
    found = {name: vars(callback).get(name) for name in inspect.signature(type(callback)).parameters}
    return {name: value for name, value in found.items() if isinstance(value, bool | int | float | str)}
