"""SIGKILL at any moment, a save included, costs at most the work since the last checkpoint; the rest is bit-equal."""

import signal
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
from processes import start

from mpgen.training.checkpointing import LAST, PREVIOUS, RunCheckpoints, latest_whole

sys.path.insert(0, str(Path(__file__).parent))
from killed import train

POINTS = {"in a step": 3, "in a write": 2, "in between": 2}  # and the steps that must be there afterwards


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.found.append(float(trainer.callback_metrics["loss"]))


@pytest.fixture(scope="module")
def folder(once, small_world, make_small_data) -> Path:
    """The folders of three runs that killed themselves, by the point at which they did."""

    def make(folder: Path) -> None:
        make_small_data().prepare_data()
        runs = [start(train, str(small_world), folder, point, said=folder / f"said {point}") for point in POINTS]
        assert [run.wait() for run in runs] == 3 * [-signal.SIGKILL], [run.err for run in runs]

    return once("killed", make)


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_goes_on_to_the_same_losses(folder, point, fit, make_module, make_small_data, tmp_path):
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


def test_a_kill_between_two_renames_leaves_the_previous_one(folder):
    # The run that went on has both again, so look at what the kill left: the half-way state is named in POINTS.
    assert (folder / "in between" / PREVIOUS).exists()
