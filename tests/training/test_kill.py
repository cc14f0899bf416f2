"""SIGKILL at any moment, a save included, costs at most the work since the last checkpoint; the rest is bit-equal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest

from mpgen.training.checkpointing import LAST, PREVIOUS, RunCheckpoints, latest_whole

POINTS = {"in an update": 3, "in a write": 2, "in between": 2}  # and the updates that must be there afterwards


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.found.append(float(trainer.callback_metrics["loss"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def killed(folder, small_world, make_small_data) -> dict[str, int]:
    """How three runs that killed themselves ended, side by side."""
    make_small_data().prepare_data()
    running = {
        point: subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killed.py")), str(small_world), str(folder / point), point],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for point in POINTS
    }  # fmt: skip
    said = {point: process.communicate(timeout=240)[0] for point, process in running.items()}
    ended = {point: process.returncode for point, process in running.items()}
    assert set(ended.values()) == {-signal.SIGKILL}, said
    return ended


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_goes_on_to_the_same_losses(killed, folder, point, fit, make_module, make_small_data, tmp_path):
    found = latest_whole(folder / point)
    assert found is not None
    assert found.content["global_step"] == POINTS[point]
    straight, rest = Losses(), Losses()
    fit(make_module(), make_small_data(), tmp_path, 6, callbacks=[straight])
    fit(
        make_module(), make_small_data(), folder / point, 6,
        callbacks=[rest], ckpt_path=found.path, plugins=[RunCheckpoints()],
    )  # fmt: skip
    assert rest.found == straight.found[POINTS[point] :]
    again = latest_whole(folder / point)
    assert again is not None
    assert (again.path.name, again.content["global_step"]) == (LAST, 6)
    assert not list((folder / point).glob(".*"))


def test_a_kill_between_two_renames_leaves_the_previous_one(killed, folder):
    # The run that went on has both again, so look at what the kill left: the half-way state is named in POINTS.
    assert (folder / "in between" / PREVIOUS).exists()
