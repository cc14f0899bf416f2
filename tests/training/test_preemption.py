"""A run that gets a signal to stop finishes its step, saves, and ends with a status that schedulers understand."""

import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest

from mpgen.training.callbacks.preemption import INTERRUPTED, SIGNALS, STOPPED, Preemption
from mpgen.training.checkpointing import LAST, RunCheckpoints, latest_whole


class Losses(pl.Callback):
    """The losses; sends a signal to this process in the middle of a step."""

    def __init__(self, number: signal.Signals | None = None, step: int = 2) -> None:
        self.found: list[float] = []
        self.number, self.step = number, step

    def on_after_backward(self, trainer, pl_module) -> None:
        if self.number is not None and trainer.global_step == self.step:
            number, self.number = self.number, None  # once, though a step has many backward passes
            os.kill(os.getpid(), number)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.found.append(float(trainer.callback_metrics["loss"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_after_the_step_and_the_run_goes_on_bit_equal(
    fit, make_module, make_small_data, tmp_path, number
):
    straight, first, rest = Losses(), Losses(number), Losses()
    fit(make_module(), make_small_data(), tmp_path / "straight", 5, callbacks=[straight])
    run = tmp_path / "run"
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit) as end:
        fit(make_module(), make_small_data(), run, 5, callbacks=[first, Preemption()], plugins=[RunCheckpoints()])
    assert end.value.code == (INTERRUPTED if number == signal.SIGINT else STOPPED)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    found = latest_whole(run)
    assert found is not None
    assert (found.path, found.content["global_step"]) == (run / LAST, 3)
    fit(make_module(), make_small_data(), run, 5, callbacks=[rest], ckpt_path=found.path, plugins=[RunCheckpoints()])
    assert first.found + rest.found == straight.found


def test_a_second_interruption_or_one_between_epochs_ends_at_once():
    callback = Preemption()
    with pytest.raises(KeyboardInterrupt):
        callback._note(signal.SIGINT, None)
    callback.in_epoch = True
    callback._note(signal.SIGINT, None)
    assert callback.received == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        callback._note(signal.SIGINT, None)


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
