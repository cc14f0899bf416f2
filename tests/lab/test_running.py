"""Steps are done once, and one that fails does not end the others."""

import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from mpgen.errors import UserError
from mpgen.lab.command import Bench, lab
from mpgen.lab.rows import read_row
from mpgen.lab.running import Steps


def test_a_step_is_run_once_and_tried_again_after_a_failure(tmp_path):
    steps = Steps(tmp_path / "steps", threads=3)
    script = f"import os; open({str(tmp_path / 'n')!r}, 'a').write(os.environ['OMP_NUM_THREADS'])"
    seconds = steps.run("one", ("-c", script))
    assert steps.run("one", ("-c", script)) == seconds >= 0
    assert (tmp_path / "n").read_text() == "3"
    for _ in range(2):
        with pytest.raises(UserError, match=r"bad: failed, see .*bad\.log"):
            steps.run("bad", ("-c", "raise SystemExit('no disc')"))
    assert (tmp_path / "steps" / "bad.log").read_text() == "no disc\nno disc\n"


def test_all_are_stopped_together(tmp_path):
    steps, said = Steps(tmp_path), []

    def run():
        with pytest.raises(UserError, match="long: stopped") as error:
            steps.run("long", ("-c", "import time; time.sleep(60)"))
        said.append(str(error.value))

    thread = threading.Thread(target=run)
    thread.start()
    while not steps.running:
        time.sleep(0.01)
    steps.stop()
    thread.join(20)
    assert said
    with pytest.raises(UserError, match="after: stopped"):
        steps.run("after", ("-c", ""))


def test_a_row_that_fails_does_not_end_the_others_and_stages_are_shared(tmp_path, monkeypatch):
    bench, ran = Bench(tmp_path, Steps(tmp_path / "steps"), (), None), []

    def run(name, arguments):
        ran.append(name)
        if name == "f1_ct_seed0":
            raise UserError(f"{name}: failed")
        return 1.0

    monkeypatch.setattr(bench.steps, "run", run)
    (tmp_path / "steps").mkdir()
    rows = [read_row(name) for name in ("f1_ct", "memorypack", "all")]
    assert bench.run(rows, [0, 1], jobs=2) == ["f1_ct_seed0: failed"]
    assert ran[:2] == ["world", "questions"]
    assert sum(name.startswith("begin") for name in ran) == 4  # two first stages a seed
    assert {name for name in ran if name.startswith("ask")} == {
        f"ask_{row}_seed{seed}" for row in ("f1_ct", "memorypack", "all") for seed in (0, 1)
    } - {"ask_f1_ct_seed0"}
    first = yaml.safe_load((tmp_path / "steps" / f"begin_{rows[0].begins_as}_seed1.yaml").read_text())
    assert first == rows[0].first_stage


def test_the_commands_lay_a_row_over_what_is_shared(tmp_path):
    bench = Bench(tmp_path, Steps(tmp_path), (), 3)
    words = bench._fit("x", [read_row("all").path], 2, ("--model.init_from", "y"))
    configs = [word.rsplit("/", 1)[-1] for before, word in pairwise(words) if before == "--config"]
    assert configs == ["quickstart.yaml", "shared.yaml", "all.yaml"]
    assert words[-6:] == ("--model.seed", "2", "--data.seed", "2", "--model.init_from", "y")


TINY = """
data:
  manifest: data/lab/manifest.csv
  batch_size: 2
  world: {train_videos: 6}
  curriculum: {class_path: mpgen.data.curriculum.Excerpts, init_args: {stages: [[2, 3, 2, 2]]}}
trainer:
  val_check_interval: 2
  callbacks:
    - class_path: mpgen.training.callbacks.ema.EMA
    - {class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {every_n_train_steps: 1, save_last: true}}
"""


@pytest.mark.slow
def test_rows_are_trained_and_asked_and_the_same_command_finds_them_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    options = {"rows": ("f1_ct", "all"), "seeds": (0,), "output": Path("lab"), "overlay": (Path("tiny.yaml"),)}
    lab(**options, most=1)
    first = (tmp_path / "lab" / "table.md").read_text()
    assert "| all | 1 | 212 |" in first
    assert "ask_all_seed0" in capsys.readouterr().out
    lab(**options, most=1)
    assert "ask" not in capsys.readouterr().out.split("**Recall")[0]
    assert (tmp_path / "lab" / "table.md").read_text() == first
