"""The quickstart, as its user runs it, in small: fit, resume, generate, evaluate, through the `mpgen` command."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from processes import mpgen, start

from mpgen.video.clips import read_video
from mpgen.video.opening import read_metadata

sys.path.insert(0, str(Path(__file__).parent / "training"))
from small_run import run

ROOT = Path(__file__).parent.parent
SMALL = """
data:
  world:
    train_videos: 8
    val_videos: 2
    pixel_frames: [17, 33]
    length_weights: [1, 1]
  batch_size: 2
  curriculum:
    class_path: mpgen.data.curriculum.Staged
    init_args:
      stages: [[1, 2], [2, 2]]
trainer:
  val_check_interval: 2
  log_every_n_steps: 2
  callbacks:
    - class_path: mpgen.training.callbacks.ema.EMA
    - class_path: mpgen.training.callbacks.samples.SampleVideos
      init_args:
        num_videos: 2
        steps: 2
    - class_path: mpgen.training.callbacks.result.HeldOutResult
      init_args: {num_long: 1, num_hiding: 1, seconds: 2.0, hidden_seconds: [1.0, 3.0], steps: 1}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        every_n_train_steps: 2
        save_last: true
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def fitted(folder):
    """The folder, the configs and what `mpgen fit` said, in a process of its own as a user starts it."""
    (folder / "small.yaml").write_text(SMALL)
    configs = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--config", "small.yaml"]
    done = start(mpgen, "fit", *configs, said=folder / "said", folder=folder)
    assert done.wait() == 0, done.err
    return folder, configs, done.out


def test_fit_renders_trains_samples_and_says_what_it_made(fitted):
    folder, _, said = fitted
    run = folder / "runs" / "quickstart"
    assert (folder / "data" / "quickstart" / "manifest.csv").exists()
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert (run / "config.yaml").exists()
    assert list(run.glob("events.out.tfevents.*"))
    samples = sorted(run.glob("samples/step00000004/*.mp4"))
    assert len(samples) == 2
    assert read_video(samples[0]).shape[1:] == (64, 130, 3)  # truth, a margin, ours
    assert "done: steps 0 to 4" in said
    assert "comes back after hiding: colour and shape" in said
    assert (run / "result.png").exists()
    for what in (
        "checkpoints/last.ckpt",
        "result.mp4",
        "samples/step00000004",
        "tensorboard --logdir",
        "mpgen generate",
    ):
        assert what in said


def test_the_same_command_again_finds_nothing_left_to_do(fitted):
    folder, configs, _ = fitted
    done = start(mpgen, "fit", *configs, said=folder / "again", folder=folder)
    assert done.wait() == 0, done.err
    assert "done: steps 4 to 4" in done.out


def test_generate_makes_a_video_of_the_wanted_length_that_says_how_it_was_made(fitted, monkeypatch):
    folder, _, _ = fitted
    monkeypatch.chdir(folder)
    checkpoint = "runs/quickstart/checkpoints/last.ckpt"
    done = run(
        "generate", "--ckpt_path", checkpoint, "--scene", "occlude", "--seconds", "2.4", "--steps", "2",
        "--sampler", "unipc", "--output", "made/out.mp4",
    )  # fmt: skip
    assert done.status == 0, done.err
    video = folder / "made" / "out.mp4"
    assert len(read_video(video)) == 1 + 3 * 12  # 2.4 s at 12 fps are three sections of 12 frames
    record = json.loads((folder / "made" / "out.json").read_text())
    assert record["sampling"]["sampler"] == "unipc"
    assert json.loads(read_metadata(video)["comment"])["prompt"] == record["prompt"] != ""
    assert "an object comes in" in record["prompt"]


def test_a_suite_is_generated_and_scored_against_the_truth(fitted, monkeypatch):
    folder, _, _ = fitted
    monkeypatch.chdir(folder)
    done = run(
        "generate", "--ckpt_path", "runs/quickstart/checkpoints/last.ckpt", "--world", "data/quickstart",
        "--seconds", "0.7", "--steps", "2", "--output", "suite",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert len(list((folder / "suite").glob("*.mp4"))) == 2
    scored = run("evaluate", "--world", "data/quickstart", "--videos", "suite", "--output", "suite/scores")
    assert scored.status == 0, scored.err
    assert "first section" in scored.out
    assert json.loads((folder / "suite" / "scores" / "scores.json").read_text())
    assert (folder / "suite" / "scores" / "curves.png").exists()


FEW_STEPS = """
data:
  batch_size: 2
  curriculum: {class_path: mpgen.data.curriculum.Staged, init_args: {stages: [[1, 1]]}}
trainer:
  limit_val_batches: 0
  log_every_n_steps: 1
  callbacks:
    - class_path: mpgen.training.callbacks.ema.EMA
    - {class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {every_n_train_steps: 1, save_last: true}}
"""
# What makes a command of the first page small, after its own options.
SMALLER = {
    "fit": ["--config", "few_steps.yaml"],
    "generate": ["--seconds", "0.4", "--steps", "1"],
}


def test_the_first_pages_commands_run_in_order(fitted, monkeypatch):
    """After its first, which `fitted` has run; mpgen lab has tests of its own."""
    folder, _, _ = fitted
    monkeypatch.chdir(folder)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "few_steps.yaml").write_text(FEW_STEPS)
    (folder / "student.yaml").write_text(re.search(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1])
    Image.new("RGB", (80, 64), "white").save(folder / "cat.png")
    done = run("world", "--output", "own", "--train_videos", "4", "--val_videos", "2", "--pixel_frames", "[97]")
    assert done.status == 0, done.err
    shutil.copytree(folder / "own" / "videos", folder / "videos")
    for video in (folder / "videos").glob("*.mp4"):
        video.with_suffix(".txt").write_text(f"{video.stem} moves.")
    commands = re.findall(r"^\.venv/bin/mpgen (.*)$", page, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command)
        if words[0] == "lab":
            continue
        world = [] if "training.yaml" in command or words[0] != "fit" else ["--config", "small.yaml"]
        done = run(*words, *world, *SMALLER.get(words[0], []))
        assert done.status == 0, (command, done.err)
        if "cat.png" in command:  # a plain white picture
            assert "warning: the start image is far from what this model was trained on" in done.err
    for made in ("out.mp4", "cat.mp4", "runs/mine/checkpoints/last.ckpt", "runs/student/checkpoints/last.ckpt"):
        assert (folder / made).exists(), made


def test_the_readmes_commands_name_files_that_are_there():
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if ".venv/bin/" in line]
    first, second = lines[:2]
    assert all(line.startswith("python3.11 -m venv .venv && .venv/bin/pip install -e ") for line in (first, second))
    assert first.endswith("&& .venv/bin/mpgen fit --config configs/quickstart.yaml")
    assert second.endswith("&& .venv/bin/pytest -n auto")
    for line in lines:
        for word in line.split():
            if word.startswith(("configs/", "tools/")):
                assert (ROOT / word).exists(), line
