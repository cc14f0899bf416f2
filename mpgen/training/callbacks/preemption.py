"""A run that gets a signal to stop saves at the end of the step and ends with the status that schedulers expect."""

import os
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from mpgen.training.checkpointing import LAST

STOPPED = 143  # 128 + SIGTERM: what a scheduler takes for "was told to stop"
INTERRUPTED = 130  # 128 + SIGINT
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preemption(pl.Callback):
    """On SIGTERM, SIGUSR1 or Ctrl-C to any rank: all finish the step, save `last.ckpt` and end with status 143 or 130.

    A second Ctrl-C, or one outside of the epochs, ends the run at once.

    Under SLURM, SIGUSR1 (`--signal=SIGUSR1@300`) also puts the job back into the queue. Lightning's own handlers are
    replaced: they talk to the other ranks from inside the handler, and SLURM's saves in the middle of a video.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.in_epoch = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number in SIGNALS:
            signal.signal(number, self._note)  # Lightning puts back what was there before the run

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.in_epoch = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.in_epoch = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            return
        requeue = trainer.strategy.reduce_boolean_decision(self.received == signal.SIGUSR1, all=False)
        path = last_checkpoint(trainer)
        trainer.save_checkpoint(path)
        rank_zero_info(f"told to stop: saved {path} after step {trainer.global_step}")
        if requeue and trainer.is_global_zero and "SLURM_JOB_ID" in os.environ:
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
        by_hand = trainer.strategy.reduce_boolean_decision(self.received == signal.SIGINT, all=False)
        raise SystemExit(INTERRUPTED if by_hand else STOPPED)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and (self.received is not None or not self.in_epoch):
            raise KeyboardInterrupt
        self.received = number
        if number == signal.SIGINT:
            rank_zero_info("\nsaves after this step; Ctrl-C once more ends at once")


def last_checkpoint(trainer: pl.Trainer) -> Path:
    """Where the run keeps its latest state."""
    savers = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    named = next((Path(c.dirpath) for c in savers if c.dirpath is not None), None)
    return (named or Path(trainer.default_root_dir) / "checkpoints") / LAST
