"""Small trainings that kill themselves with SIGKILL, each at another point.

Not a test: what is killed must be a process of its own.
"""

import os
import signal
import sys
from pathlib import Path

import lightning.pytorch as pl

sys.path.insert(0, str(Path(__file__).parent))
from ranks import small_data
from small_models import fit, make_module

from mpgen.training import checkpointing
from mpgen.training.checkpointing import RunCheckpoints

KILLED_AT = 3  # steps


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DieInStep(pl.Callback):
    """In the middle of a step, long after the last checkpoint."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step == KILLED_AT:
            die()


def die_in_write() -> None:
    """When half of a checkpoint is on the disk."""
    save = checkpointing.torch.save

    def half(checkpoint, file) -> None:
        if checkpoint["global_step"] < KILLED_AT:
            save(checkpoint, file)
            return
        file.write(Path(file.name.replace(".tmp", "").replace("/.", "/")).read_bytes()[:5000])
        file.flush()
        die()

    checkpointing.torch.save = half


def die_in_between() -> None:
    """When the old checkpoint has made room and the new one has not yet its name."""
    replace, calls = os.replace, []

    def counted(source, target) -> None:
        calls.append(source)
        if Path(source).name.startswith(".last") and len([c for c in calls if ".last" in str(c)]) == KILLED_AT:
            die()
        replace(source, target)

    checkpointing.os.replace = counted


POINTS = {"in a step": lambda: None, "in a write": die_in_write, "in between": die_in_between}


def train(world: str, folder: Path, point: str) -> None:
    POINTS[point]()
    callbacks = [DieInStep()] if point == "in a step" else []
    fit(make_module(), small_data(world, 2), folder / point, 6, callbacks=callbacks, plugins=[RunCheckpoints()])
