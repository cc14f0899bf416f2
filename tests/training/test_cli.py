"""`mpgen fit` and `mpgen validate` in small real runs; what they say to wrong configs is in tests/test_faults.py."""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from mpgen import cli
from mpgen.encoders.tiny import TinyEncoders
from mpgen.training.callbacks.ema import EMA

ENCODERS = TinyEncoders()
CONFIG = {
    "ckpt_path": "last",
    "model": {
        "denoiser": {
            "dit": {
                "in_channels": ENCODERS.vae.latent_channels,
                "num_attention_heads": 2,
                "attention_head_dim": 16,
                "num_layers": 1,
                "num_single_layers": 1,
                "num_refiner_layers": 1,
                "text_embed_dim": ENCODERS.text.token_width,
                "pooled_projection_dim": ENCODERS.text.pooled_width,
                "image_proj_dim": ENCODERS.image.width,
                "rope_axes_dim": [4, 6, 6],
            },
            "semantic": {"num_heads": 2, "head_dim": 8, "memorize_layers": 1, "window_patch": [1, 2, 2]},
            "layout": {"section": 2, "history_4x": 4, "history_2x": 2, "history_1x": 1},
        },
        "forcing": "mpgen.training.forcing.DirectForcing",
        "sigma": {"class_path": "mpgen.flow.LogitNormal", "init_args": {"shift": 2.0}},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
        "lr_scheduler": {"class_path": "WarmupCosine", "init_args": {"warmup_updates": 2, "total_updates": 9}},
    },
    "data": {
        "encoders": "TinyEncoders",
        "world": {"size_px": 32, "train_videos": 3, "val_videos": 2, "pixel_frames": [9, 17]},
        "height_px": 32,
        "width_px": 32,
        "max_sections": 2,
        "batch_size": 2,
        "curriculum": {"class_path": "Staged", "init_args": {"stages": [[1, 2], [2, 1]]}},
    },
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "callbacks": [
            {"class_path": "EMA"},
            {"class_path": "SampleVideos", "init_args": {"num_videos": 1, "num_sections": 1, "steps": 1}},
            {
                "class_path": "ModelCheckpoint",
                "init_args": {"every_n_train_steps": 1, "save_last": True},
            },
        ],
    },
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


def run(*argv: str) -> Ended:
    """`mpgen ARGV` in this process; a warning is an error."""
    out, err, before, status = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["mpgen", *argv]
    try:
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            cli.main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = before
    return Ended(status, out.getvalue(), err.getvalue())


def write(folder: Path) -> Path:
    """The small config as YAML, with all that it makes in `folder`."""
    paths = {"manifest": str(folder / "manifest.csv"), "cache": str(folder / "cache")}
    tree = CONFIG | {"run": str(folder / "run"), "data": CONFIG["data"] | paths}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small config, its world, cache, and a finished run of 3 updates; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    config = write(folder)
    ended = run("fit", "--config", str(config))
    assert ended.status == 0, ended.err
    assert "done: updates 0 to 3" in ended.out
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
    assert "done: updates 3 to 3" in ended.out
    assert logged.read_bytes() == before


def test_a_finished_run_is_not_begun_anew_in_its_folder(again):
    ended = run("fit", *again, "--ckpt_path", "null")
    assert ended.status == 2
    assert "is of an earlier run" in ended.err
    assert "--ckpt_path last" in ended.err


def test_validate_samples_with_the_averaged_weights_at_the_right_update(own, tmp_path, monkeypatch):
    averaged, used = EMA.averaged, []
    monkeypatch.setattr(EMA, "averaged", lambda self, module: used.append(self.shadow) or averaged(self, module))
    config = (tmp_path / "run" / "config.yaml").read_bytes()
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    shutil.rmtree(tmp_path / "run" / "samples")
    ended = run("validate", *own, "--ckpt_path", str(checkpoint))
    assert ended.status == 0, ended.err
    assert "val_loss" in ended.out
    assert [folder.name for folder in (tmp_path / "run" / "samples").iterdir()] == ["update00000003"]
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


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # the run lies in a copy of its folder
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(again, tmp_path, caplog):
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:20_000])
    ended = run("fit", *again)
    assert ended.status == 0, ended.err
    assert "done: updates 2 to 3" in ended.out
    assert f"{last} is damaged or not a checkpoint of mpgen fit: going on from" in caplog.text
    assert "previous.ckpt, update 2" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.denoiser.dit.num_layers", "2"], "transformer_blocks.1."),
        (["--model.denoiser.layout.history_1x", "2", "--model.train", '["norm_out.*"]'], "model.train"),
    ],
)
def test_a_checkpoint_of_another_model_is_named(again, options, said):
    ended = run("fit", *again, *options)
    assert (ended.status, ended.err.count("\n")) == (2, 2)
    assert said in ended.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_ends_with_the_closing_words_and_its_signals_status(trained, tmp_path, number, status):
    options = ("--config", str(trained / "small.yaml"), "--run", str(tmp_path / "run"))
    stages = ("--data.curriculum.init_args.stages", "[[1, 9999]]", "--trainer.limit_val_batches", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "mpgen", "fit", *options, *stages],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert "stopped: updates 0 to" in out
    assert "Traceback" not in err
    for noise in ("GPU", "TPU", "Tip", "warn", "ModelCheckpoint", "deprecated"):
        assert noise not in err
