import sys
from pathlib import Path

import pytest

from mpgen import cli
from mpgen.planner import command as planner_command
from mpgen.planner import summary
from mpgen.planner.needs import Assumptions, machines_for
from mpgen.planner.summary import Videos
from mpgen.training.dry_run import DryRun

CONFIGS = Path(__file__).parents[2] / "configs"
TRAINER = {"devices": "auto", "num_nodes": 1, "precision": "bf16-mixed", "strategy": "auto"}


@pytest.fixture
def summarise(make_module, monkeypatch):
    """The lines of a plan for small videos, by their first word; those of `or` together. Dry runs are tested apart."""
    needs = {"none": 9 * 10**6, "selective": 5 * 10**6, "full": 3 * 10**6}

    def dry_run(module, shape, precision, recompute) -> DryRun:
        return DryRun((10**12, 2 * 10**12), 31, needs[recompute], 8000, 40)

    monkeypatch.setattr(summary, "dry_run", dry_run)

    def run(assumed=Assumptions(), train=("*",), steps=1000, **trainer) -> dict[str, str]:  # noqa: B008
        videos = Videos(
            32, 48, max_sections=4, mean_sections=3, batch_size=2, steps=steps,
            latent_px=8, text_tokens=256, image_tokens=729,
        )  # fmt: skip
        said = summary.summarise(make_module(train=train), videos, machines_for(TRAINER | trainer), assumed)
        lines: dict[str, str] = {}
        for line in said.splitlines():
            name, text = line.split(maxsplit=1)
            lines[name] = f"{lines[name]}\n{text}" if name in lines else text
        return lines

    return run


def test_a_run_that_trains_all_is_told_so(summarise):
    said = summarise()
    assert "(100.000%): *" in said["trains"]
    assert "(forward and backward)" in said["compute"]
    assert "3 sections a video, at most 4" in said["section"]
    assert said["memory"].endswith("fits")


def test_what_does_not_fit_is_told_with_what_would(summarise):
    said = summarise(Assumptions(gpu_memory_gb=0.001), devices=8)
    need = float(said["memory"].split()[0])
    assert said["memory"].endswith(f"does not fit by {need:.1f} GiB")  # of a GPU with nearly nothing
    assert [line.split(":")[0] for line in said["or"].splitlines()] == [
        "model.recompute none", "model.recompute selective", "model.recompute full",
    ]  # fmt: skip
    assert "fsdp2 over 8" in said["or"]


def test_the_head_alone_has_nothing_to_recompute(summarise):
    said = summarise(train=("backbone.norm_out.*", "backbone.proj_out.*"))
    assert said["or"].count("model.recompute") == 1
    assert "through the head alone" in said["compute"]


def test_days_follow_from_the_steps(summarise):
    assert "1,000 steps: " in summarise()["time"]
    assert "how many steps is not said" in summarise(steps=None)["time"]


def ended(monkeypatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mpgen", *argv])
    try:
        cli.main()
    except SystemExit as end:
        return end.code
    return 0


def test_the_13b_run_is_planned_without_weights_data_or_gpus(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    config = ["--config", str(CONFIGS / "df_stage2.yaml"), "--gpus", "8", "--gpu_memory_gb", "80"]
    assert ended(monkeypatch, "plan", *config) == 0
    said = capsys.readouterr().out
    assert "backbone 12,874,314,816" in said
    assert "19,077,184 (0.144%): backbone.norm_out.*, backbone.proj_out.*" in said
    assert "section 14,040, history and memory 4,238" in said  # 3,120 + 390 + 416 of FramePack, 312 of the memory
    assert "8 GPU(s), weights whole on each" in said
    assert "fits" in said
    assert "5,000 steps" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", [["--print_summary"], ["--print_summary=true"]])
def test_fit_gives_the_same_summary_for_the_machines_of_its_config(flag, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    given = []
    monkeypatch.setattr(planner_command, "summarise", lambda *arguments: given.append(arguments) or "the plan")
    config = str(CONFIGS / "df_stage2.yaml")
    assert ended(monkeypatch, "fit", "--config", config, "--trainer.devices", "8", *flag) == 0
    assert "the plan" in capsys.readouterr().out
    _, videos, machines, _ = given[0]
    assert (machines.gpus, videos.max_sections, videos.steps) == (8, 40, 5000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gpus", "0"], "--gpus 0"),
        (["--gpu", "Z9"], "invalid choice: 'Z9'"),
        (["--mfu", "2"], "mfu 2"),
        (["--gpus", "many"], "invalid int value: 'many'"),
        (["--trainer.devizes", "8"], "devizes"),
    ],
)
def test_a_wrong_option_of_the_plan_is_named(options, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert ended(monkeypatch, "plan", "--config", str(CONFIGS / "df_stage2.yaml"), *options) == 2
    assert said in capsys.readouterr().err
