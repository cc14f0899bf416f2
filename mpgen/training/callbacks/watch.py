"""Says where a run stands still, and which rank failed first."""

import faulthandler
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

LAUNCHER = "MPGEN_LAUNCHER"  # in the environment: the process that starts ranks
FIRST_FAILURE = "first_failure.txt"
GONE = re.compile(r"Connection (?:closed|reset) by peer|remote process exited|Broken pipe|NCCL")


class Watch(pl.Callback):
    """When a rank makes no progress for long, it says at which step, section and phase, and where in the code.

    The first rank that fails writes why into the run's folder, so that the others, whose own errors are only that it is
    gone, can say so.

    Args:
        patience_minutes: below the strategy's `timeout_minutes`, which ends the run.
    """

    def __init__(self, patience_minutes: float | int = 5.0):
        self.patience_minutes = patience_minutes
        self.ended = threading.Event()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            _file(trainer).unlink(missing_ok=True)
        trainer.strategy.barrier()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended.clear()
        threading.Thread(target=self._look, args=(trainer, pl_module), daemon=True, name="mpgen watch").start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        pl_module.position = "start of the step"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        pl_module.position = "between steps (data, logs, checkpoints, samples)"

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Exception):
            said = " ".join(str(exception).split()) or type(exception).__name__
            note_failure(_file(trainer), f"rank {trainer.global_rank}, {_where(trainer, pl_module)}: {said}")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.ended.set()

    def _look(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seen, still, said = "", 0, False
        pause = self.patience_minutes * 60 / 10
        while not self.ended.wait(pause):
            now = _where(trainer, pl_module)
            still = still + 1 if now == seen else 0
            said = said and now == seen
            seen = now
            if still >= 10 and not said:
                said = True
                print(
                    f"mpgen: rank {trainer.global_rank} of {trainer.world_size} has stood at {now} for "
                    f"{self.patience_minutes:g} min; it may wait for another rank. Its threads:",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                faulthandler.dump_traceback(sys.__stderr__)


def note_failure(file: Path, said: str) -> None:
    """Keeps what was said first; later failures are but its consequences."""
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(said)
    except OSError:  # another rank was first, or the disk is full, which must not hide the failure itself
        return


def first_failure(trainer: pl.Trainer) -> str | None:
    """Which rank failed first and why, if that was another one than this."""
    try:
        said = _file(trainer).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return None if said.startswith(f"rank {trainer.global_rank},") else said


def lost_rank(num_ranks: int, error: BaseException) -> str | None:
    """A line where the error is only that another rank is gone, which could not say why."""
    if num_ranks == 1 or not isinstance(error, RuntimeError) or not GONE.search(str(error)):
        return None
    return (
        f"another of the {num_ranks} ranks ended without a word: was it killed, for want of memory say? "
        "The same command goes on from the last checkpoint"
    )


def end_with_parent(patience_seconds: float = 10.0) -> None:
    """Ends this rank, if another process started it, when that one is gone: it would wait for the others for ever.

    That may be so before this one has come as far as here, so who starts others says so in the environment.
    """
    if "LOCAL_RANK" not in os.environ:
        os.environ[LAUNCHER] = str(os.getpid())
        return
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    parent = os.getppid() if by_torchrun else int(os.environ.get(LAUNCHER, os.getppid()))
    wait = (parent, patience_seconds)
    threading.Thread(target=_outlive, args=wait, daemon=True, name="end with parent").start()


def _outlive(parent: int, patience_seconds: float) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    time.sleep(patience_seconds)  # the end of a run is not the same moment for all
    rank = os.environ.get("RANK", os.environ["LOCAL_RANK"])
    print(f"mpgen: rank {rank}: the process that started it is gone; it ends too", file=sys.stderr, flush=True)
    os._exit(1)


def _file(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir) / FIRST_FAILURE


def _where(trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
    return f"step {trainer.global_step}, {pl_module.position}"
