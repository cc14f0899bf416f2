"""A run that gets a signal to stop finishes its step, saves, and ends with a status that schedulers understand."""

import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest

from mpgen.training.callbacks.preemption import STOPPED, Preemption
from mpgen.training.checkpointing import LAST, RunCheckpoints, latest_whole


class Losses(pl.Callback):
    """The losses; sends a signal to this process in the middle of a step."""

    def __init__(self, number: signal.Signals | None = None, step: int = 2) -> None:
        self.found: list[float] = []
        self.number, self.step = number, step

    def on_after_backward(self, trainer, pl_module) -> None:
        if self.number is not None and trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.found.append(float(trainer.callback_metrics["loss"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_after_the_step_and_the_run_goes_on_bit_equal(
    fit, make_module, make_small_data, tmp_path, number
):
    straight, first, rest = Losses(), Losses(number), Losses()
    fit(make_module(), make_small_data(), tmp_path / "straight", 5, callbacks=[straight])
    run = tmp_path / "run"
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(SystemExit) as end:
        fit(make_module(), make_small_data(), run, 5, callbacks=[first, Preemption()], plugins=[RunCheckpoints()])
    assert end.value.code == STOPPED == 143
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == handlers
    found = latest_whole(run)
    assert found is not None
    assert (found.path, found.content["global_step"]) == (run / LAST, 3)
    fit(make_module(), make_small_data(), run, 5, callbacks=[rest], ckpt_path=found.path, plugins=[RunCheckpoints()])
    assert first.found + rest.found == straight.found


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    """What `scontrol` was asked for, as a file."""
    asked = tmp_path / "asked"
    command = tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7411")
    return asked


@pytest.mark.parametrize(("number", "asked"), [(signal.SIGUSR1, "requeue 7411\n"), (signal.SIGTERM, None)])
def test_slurms_warning_puts_the_job_back_into_the_queue(
    fit, make_module, make_small_data, tmp_path, queue, number, asked
):
    with pytest.raises(SystemExit):
        fit(make_module(), make_small_data(), tmp_path / "run", 2, callbacks=[Losses(number, 0), Preemption()])
    assert (queue.read_text() if queue.exists() else None) == asked
