"""`mpgen fit` and `mpgen validate` in small real runs; what they say to wrong configs is in tests/test_faults.py."""

import csv
import io
import json
import os
import re
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping
from processes import mpgen, start

from mpgen.training.callbacks.ema import EMA
from mpgen.training.callbacks.final_state import FinalState

sys.path.insert(0, str(Path(__file__).parent))
from small_run import run, write


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small config, its world, cache, and a finished run of 3 steps; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    config = write(folder)
    ended = run("fit", "--config", str(config))
    assert ended.status == 0, ended.err
    assert "done: steps 0 to 3" in ended.out
    return folder


@pytest.fixture
def again(trained: Path, tmp_path: Path) -> tuple[str, ...]:
    """The options of that run, on a copy of its folder."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return ("--config", str(trained / "small.yaml"), "--run", str(tmp_path / "run"))


def losses(run_folder: Path) -> list[str]:
    (metrics,) = run_folder.glob("csv/*/metrics.csv")
    with metrics.open() as file:
        return [row["loss"] for row in csv.DictReader(file) if row["loss"]]


def test_the_saved_config_gives_the_same_run(trained, tmp_path):
    ended = run("fit", "--config", str(trained / "run" / "config.yaml"), "--run", str(tmp_path / "run"))
    assert ended.status == 0, ended.err
    assert len(losses(trained / "run")) == 3
    assert losses(tmp_path / "run") == losses(trained / "run")
    first, second = (yaml.safe_load((folder / "run" / "config.yaml").read_text()) for folder in (trained, tmp_path))
    assert first | {"run": 0} == second | {"run": 0}


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> tuple[str, ...]:
    """The options of a finished run in `tmp_path / "run"`."""
    options = ("--config", str(trained / "small.yaml"), "--run", str(tmp_path / "run"))
    assert run("fit", *options).status == 0
    return options


def test_the_same_command_goes_on_and_keeps_what_was_logged(own, tmp_path):
    (logged,) = (tmp_path / "run").glob("csv/*/metrics.csv")
    before = logged.read_bytes()
    ended = run("fit", *own)
    assert ended.status == 0, ended.err
    assert "done: steps 3 to 3" in ended.out
    assert logged.read_bytes() == before


def test_a_finished_run_is_not_begun_anew_in_its_folder(again):
    ended = run("fit", *again, "--ckpt_path", "null")
    assert ended.status == 2
    assert "is of an earlier run" in ended.err
    assert "--ckpt_path last" in ended.err


def test_validate_samples_with_the_averaged_weights_at_the_right_step(own, tmp_path, monkeypatch):
    averaged, used = EMA.averaged, []
    monkeypatch.setattr(EMA, "averaged", lambda self, module: used.append(self.shadow) or averaged(self, module))
    config = (tmp_path / "run" / "config.yaml").read_bytes()
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    shutil.rmtree(tmp_path / "run" / "samples")
    ended = run("validate", *own, "--ckpt_path", str(checkpoint))
    assert ended.status == 0, ended.err
    assert "val_loss" in ended.out
    assert [folder.name for folder in (tmp_path / "run" / "samples").iterdir()] == ["step00000003"]
    assert (tmp_path / "run" / "config.yaml").read_bytes() == config
    saved = torch.load(checkpoint, weights_only=True)["callbacks"]["EMA"]["shadow"]
    assert used[0].keys() == saved.keys()
    assert all(torch.equal(used[0][name], saved[name]) for name in saved)


def test_validate_without_a_checkpoint_is_an_error(trained, tmp_path):
    ended = run("validate", "--config", str(trained / "small.yaml"), "--run", str(tmp_path / "none"))
    assert ended.status == 2
    assert "last.ckpt does not exist" in ended.err


def other_weights(whole: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2, 3)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:100],
        lambda whole: whole[:20_000],
        lambda whole: b"text " * 9,
        other_weights,
    ],
    ids=["empty", "beginning", "half", "text", "other weights"],
)
def test_a_damaged_checkpoint_is_named(again, tmp_path, damage):
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for other in set(last.parent.iterdir()) - {last}:
        other.unlink()
    last.write_bytes(damage(last.read_bytes()))
    ended = run("fit", *again)
    assert (ended.status, ended.err.count("\n")) == (2, 2)
    assert f"{last} is damaged" in ended.err


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(again, tmp_path, caplog):
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:20_000])
    ended = run("fit", *again)
    assert ended.status == 0, ended.err
    assert "done: steps 2 to 3" in ended.out
    assert f"{last} is damaged or not a checkpoint of mpgen fit: going on from" in caplog.text
    assert "previous.ckpt, step 2" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.denoiser.backbone.num_layers", "2"], "backbone.transformer_blocks.1."),
        (["--model.denoiser.layout.history_1x", "2", "--model.train", '["backbone.norm_out.*"]'], "model.train"),
        (["--model.optimizer", "torch.optim.RMSprop"], "another model.optimizer"),
        (["--model.optimizer.amsgrad", "true"], "another model.optimizer"),
        (["--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size", "1"], "StepLR"),
        (["--model.seed", "5"], "other settings (model.seed: 0 -> 5)"),
    ],
)
def test_a_checkpoint_of_another_model_is_named(again, options, said):
    ended = run("fit", *again, *options)
    assert (ended.status, ended.err.count("\n")) == (2, 2)
    assert said in ended.err


def test_the_last_step_is_saved_whatever_the_interval_and_changed_settings_are_said(again, trained, tmp_path, caplog):
    """In a copy of the run's folder, where `last.ckpt` is still the one file to go on from."""
    tree = yaml.safe_load((trained / "small.yaml").read_text())["trainer"]
    ema, saver = tree["callbacks"][0], {"class_path": "ModelCheckpoint", "init_args": {"every_n_train_steps": 9}}
    saver["init_args"]["save_last"] = True
    limits = ("--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0", "--model.clip_norm", "0.1")
    options = (*limits, "--trainer.callbacks", json.dumps([ema | {"init_args": {"decay": 0.5}}, saver]))
    with warnings.catch_warnings():  # of the saver that has another interval now
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
        ended = run("fit", *again, *options, "--trainer.max_steps", "5")
    assert ended.status == 0, ended.err
    assert "last.ckpt (step 5)" in ended.out
    assert "counts from step 3 on: model.clip_norm: 1.0 -> 0.1" in caplog.text
    assert "EMA.init_args.decay: 0.999 -> 0.5" in caplog.text
    folder = tmp_path / "run" / "checkpoints"
    assert {path.name for path in folder.glob("[lp]*.ckpt")} == {"last.ckpt", "previous.ckpt"}
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 5
    assert "nothing to train: 5 steps are done" in run("fit", *again, *options, "--trainer.max_steps", "5").out
    assert "done: steps 5 to 6" in run("fit", *again, *options).out  # the last group of the epoch


def test_a_callbacks_settings_are_those_of_the_config_after_a_restore(caplog):
    stopper, keeps = EarlyStopping("val_loss", patience=7), FinalState()
    trainer = pl.Trainer(callbacks=[stopper, keeps], logger=False, enable_checkpointing=False, accelerator="cpu")
    module = pl.LightningModule()
    keeps.setup(trainer, module, "fit")
    stopper.load_state_dict(EarlyStopping("val_loss", patience=1).state_dict())
    keeps.on_train_start(trainer, module)
    assert stopper.patience == 7
    assert "EarlyStopping.patience: 1 -> 7" in caplog.text


def test_a_stopped_run_ends_with_the_closing_words_and_its_signals_status(trained, tmp_path):
    """Two at once: Ctrl-C, and a scheduler's SIGTERM."""
    statuses = {signal.SIGINT: 130, signal.SIGTERM: 143}
    stages = ("--data.curriculum.init_args.stages", "[[1, 9999]]", "--trainer.limit_val_batches", "0")
    running = {}
    for number in statuses:
        options = ("--config", str(trained / "small.yaml"), "--run", str(tmp_path / number.name))
        running[number] = start(mpgen, "fit", *options, *stages, said=tmp_path / f"said-{number.name}")
    for number, ours in running.items():
        deadline = time.monotonic() + 60
        while not (tmp_path / number.name / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(ours.process.pid, number)
    for number, ours in running.items():
        assert ours.wait(30) == statuses[number], ours.err
        last = re.search(r"stopped: steps 0 to (\d+) .*\n  checkpoint +\S+last\.ckpt \(step (\d+)\)", ours.out)
        assert last is not None, ours.out
        assert last[1] == last[2]  # the step that it came to lies on the disk
        assert "Traceback" not in ours.err
        for noise in ("GPU", "TPU", "Tip", "warn", "ModelCheckpoint", "deprecated"):
            assert noise not in ours.err


def test_another_logger_leaves_checkpoints_and_tables_in_the_runs_folder(trained, tmp_path):
    elsewhere = ("--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", str(tmp_path / "elsewhere"))
    options = ("--config", str(trained / "small.yaml"), "--run", str(tmp_path / "run"), "--trainer.max_steps", "1")
    ended = run("fit", *options, *elsewhere, "--trainer.limit_val_batches", "0")
    assert ended.status == 0, ended.err
    assert list((tmp_path / "elsewhere").rglob("events.out.tfevents.*"))
    assert len(losses(tmp_path / "run")) == 1
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()  # where --ckpt_path last looks


def test_a_class_of_a_package_that_is_not_here_says_which(trained):
    ended = run("fit", "--config", str(trained / "small.yaml"), "--model.optimizer", "no_such_package.optim.AdamW8bit")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "no_such_package" in ended.err
    assert "pip install" not in ended.err


@pytest.mark.parametrize(
    ("precision", "frozen"), [("32-true", "bfloat16"), ("16-mixed", "float32"), ("bf16-true", "float32")]
)
def test_a_precision_that_cannot_be_is_told_before_anything_is_made(tmp_path, precision, frozen):
    options = ("--trainer.precision", precision, "--model.frozen_dtype", frozen)
    ended = run("fit", "--config", str(write(tmp_path)), *options)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert f"trainer.precision {precision}" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
