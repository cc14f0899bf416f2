"""The reproduction of the paper's tables: what it would run, and what it makes of the scores."""

import json
import math
import os
import signal
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from processes import script, start

ROOT = Path(__file__).parents[1]
TINY = """
data:
  manifest: {folder}/data/manifest.csv
  cache: {folder}/data/cache
  max_sections: 2
  batch_size: 2
  world: {{train_videos: 4, val_videos: 2, pixel_frames: [25]}}
  curriculum: {{class_path: mpgen.data.curriculum.Staged, init_args: {{stages: [[2, 3]]}}}}
trainer:
  val_check_interval: 3
  log_every_n_steps: 1
"""


@pytest.fixture
def reproduce(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import reproduce

    return reproduce


def test_every_row_begins_from_the_base_and_is_scored_on_what_suits_it(reproduce, tmp_path):
    chains = {row: dict(reproduce.row_steps(row, 3, reproduce.Overlays(), 12, tmp_path)) for row in reproduce.ROWS}
    assert len(chains) >= 13
    base = str(tmp_path / reproduce.BASE / "seed0" / "run" / "checkpoints" / "last.ckpt")
    for row, named in chains.items():
        assert next(iter(named)) == f"{row}_seed3_fit"
        arguments = named[f"{row}_seed3_fit"]
        configs = [value for option, value in pairwise(arguments) if option == "--config"]
        assert all((ROOT / config).is_file() for config in configs)
        assert (base in arguments) == (row != reproduce.BASE)
    assert "framepack_f0_seed3_recall_generate" not in chains["framepack_f0"]
    assert "all_seed3_minutes_generate" in chains["all"]
    assert "structure_b_seed3_minutes_generate" not in chains["structure_b"]
    worlds = {name.removeprefix("world_") for name, _ in reproduce.worlds(["structure_b"], 12, tmp_path)}
    assert worlds == {"hidden", "elsewhere", "drift"}


def test_a_preset_is_laid_under_a_row_and_an_overoverride_it(reproduce, tmp_path):
    _, arguments = next(reproduce.row_steps("f1_ct", 0, reproduce.Overlays(("below",), ("above",)), 1, tmp_path))
    configs = [value for option, value in pairwise(arguments) if option == "--config"]
    assert configs[2:] == ["below", "configs/ablation/f1_ct.yaml", "above"]


def test_a_step_is_done_once_and_a_failure_says_where_to_look(reproduce, tmp_path, capsys):
    runner = reproduce.Runner(tmp_path, steps=3)
    runner.run("version", ("-m", "mpgen", "--version"), 1)
    done = tmp_path / "steps" / "version.json"
    first = done.read_text()
    runner.run("version", ("-m", "mpgen", "--version"), 1)
    assert done.read_text() == first
    record = json.loads(first)
    assert record["seconds"] > 0
    assert set(record["where"]) == {"commit", "machine", "torch", "date"}
    with pytest.raises(SystemExit, match=r"wrong: failed, see .*wrong\.log"):
        runner.run("wrong", ("-m", "mpgen", "no_such_command"), 1)
    assert "no_such_command" in (tmp_path / "steps" / "wrong.log").read_text()
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[1].split(":")[0] for line in said] == ["step 1 of 3, version", "step 3 of 3, wrong"]


def test_the_base_has_all_cores_and_rows_share_them(reproduce, tmp_path, monkeypatch):
    say = ("-c", "import os; print(os.environ['OMP_NUM_THREADS'])")
    monkeypatch.setattr(reproduce.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(reproduce, "worlds", lambda *given: [])
    monkeypatch.setattr(reproduce, "row_steps", lambda row, *given: [(row, say)])
    rows = (reproduce.BASE, "all", "f1_ct")
    reproduce.reproduce(rows, [0], reproduce.Overlays(), 1, reproduce.Runner(tmp_path), jobs=2)
    assert [(tmp_path / "steps" / f"{row}.log").read_text() for row in rows] == ["6\n", "3\n", "3\n"]


def test_a_failure_stops_what_runs_beside_it(reproduce, tmp_path, monkeypatch):
    chains = {
        "bad": [("bad", ("-m", "mpgen", "no_such_command"))],
        "long": [("long", ("--version",)), ("after", ("--version",))],
    }
    runner = reproduce.Runner(tmp_path)
    run, begun = runner.run, []

    def watched(name, arguments, threads):
        begun.append(name)
        if name == "long":
            assert runner.stopped.wait(60)
        run(name, arguments, threads)

    monkeypatch.setattr(runner, "run", watched)
    monkeypatch.setattr(reproduce, "worlds", lambda *given: [])
    monkeypatch.setattr(reproduce, "row_steps", lambda row, *given: chains.get(row, []))
    with pytest.raises(SystemExit, match="bad: failed"):
        reproduce.reproduce(["bad", "long"], [0], reproduce.Overlays(), 1, runner, jobs=2)
    assert begun == ["bad", "long", "after"] or begun == ["long", "bad", "after"]
    assert not (tmp_path / "steps" / "long.json").exists()


def is_running(group: int) -> bool:
    """Whether a process of the group is there, as children are unless they leave it."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_terminated_run_leaves_nothing_running(tmp_path):
    options = ("--rows", "f1_ct", "--output", str(tmp_path))
    run = start(script, ROOT / "tools" / "reproduce.py", *options, said=tmp_path / "said")
    deadline = time.monotonic() + 60
    while "step 1 of" not in (run.out if run.out_file.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(run.process.pid, signal.SIGTERM)
    run.process.join(60)
    deadline = time.monotonic() + 20  # a child that tidies up ends a moment later
    while is_running(run.process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(run.process.pid)
    assert run.err.splitlines()[-1] == "stopped; the same command goes on"
    assert run.wait() == 1
    assert not (tmp_path / "steps" / "world_hidden.json").exists()


def estimated(mean: float) -> dict:
    return {"all": {"mean": mean, "half_width": 0.1, "count": 4}}


def write_scores(folder: Path, found: float, remembered: tuple[bool, ...]) -> None:
    things = [[{"found": share}] for share in (1.0, 1.0, 1.0 - found)]
    videos = [
        {"name": name, "fps": 24, "sections": things, "background_drift": -found, "chart_drift": None} for name in "ab"
    ]
    drift = {
        "videos": videos,
        "summary": {
            who: {
                "all sections: found": estimated(value),
                "objects found: drift": estimated(-0.3),
                "background: drift (dB)": estimated(-value),
            }
            for who, value in (("generated", found), ("truth", 1.0), ("copy", 0.1))
        },
        "sections": {"generated": {"found": [estimated(0.9)["all"], None]}},
        "background_psnr": {"generated": [30.0, None, 28.0]},
        "evaluation": {"groups": [{"signed_drift": {"sharpness": {"mean": -0.01}}}]},
    }
    recalls = [
        {"hidden_seconds": seconds, "identity_right": right, "witnessed": True, "came_back": True}
        for seconds, right in zip((1.0, 4.0, 5.0), remembered, strict=True)
    ]
    bins = [{"low": low, "identity": {"mean": mean, "count": 3}} for low, mean in ((0.0, 0.5), (1.5, 0.0))]
    recall = {"videos": [{"recalls": recalls}], "summary": {}, "recall": {"generated": bins, "shuffled": bins}}
    revisits = {"returns": [[10.0, 30.0], [50.0, 28.0], [290.0, 25.0]]}
    minutes = {"videos": [{"revisits": revisits, "pixel_frames": 7201, "fps": 24}, {"revisits": None}], "summary": {}}
    for suite, record in (("return", recall), ("drift", drift), ("recall", recall), ("minutes", minutes)):
        path = folder / f"{suite}_scores" / "scores.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record))
    said = {"hidden_seconds": 4.0, "colour": "red", "shape": "disc", "expected_colour": "red", "expected_shape": "ring"}
    for name, answers in (("expected", [said]), ("expected_elsewhere", [said | {"expected_shape": "disc"}])):
        (folder / f"{name}.json").write_text(json.dumps({"answers": answers}))


def test_scores_become_a_table_over_seeds_with_references_and_figures(reproduce, tmp_path):
    write_scores(tmp_path / "all" / "seed0", 0.5, (True, True, False))
    write_scores(tmp_path / "all" / "seed1", 0.7, (False, True, True))
    run = tmp_path / "all" / "seed0" / "run" / "csv" / "start0"
    run.mkdir(parents=True)
    lines = ["step,loss,loss_sigma/0.0-0.2", *(f"{step},0.1,{step / 10}" for step in range(8))]
    (run / "metrics.csv").write_text("\n".join(lines))
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "all_seed0_fit.json").write_text('{"seconds": 16.0, "where": {"commit": "abc"}}')
    first, second = reproduce.gather(tmp_path, reproduce.ROWS)
    assert first.scores["identity, own history"] == 0.5  # one second is inside the window
    assert second.scores["identity, true history"] == 1.0
    assert first.scores["expected identity"] == 0.0
    assert first.scores["expected identity, elsewhere"] == 1.0
    assert first.scores["place PSNR, first minute of five"] == pytest.approx(29)
    assert first.scores["place PSNR, last minute"] == pytest.approx(25)
    assert first.scores["time a step"] == 2.0
    assert first.loss_sigma == {"0.0-0.2": pytest.approx(0.65)}
    assert first.references["shuffled"] == {"identity, true history": 0.25, "identity, own history": 0.25}
    assert math.isnan(first.curve[1])
    assert first.found[0] == 0.9
    assert "| 0.50 ± 0.10 | -0.30 ± 0.10 |" in reproduce.write_results([first], tmp_path)  # over videos
    text = reproduce.write_results([first, second], tmp_path)
    row, truth = (
        next(line for line in text.splitlines() if line.startswith(f"| {name}")) for name in ("all", "*truth")
    )
    assert "| 2 | 0.75 ± 0.35 | 0.75 ± 0.35 | 0.60 ± 0.14 |" in row
    assert "1.00" in truth
    assert "Trained at commit abc." in text
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["results"][0]["curve"] == [30.0, None, 28.0]
    assert (tmp_path / "results.csv").read_text().count("\n") == 3
    for name in ("recall", "quality", "drift", "cost", "loss_sigma"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


@pytest.mark.slow
def test_it_runs_and_goes_on(reproduce, tmp_path, monkeypatch, capsys):
    overlay = tmp_path / "tiny.yaml"
    overlay.write_text(TINY.format(folder=tmp_path))
    options = ["--rows", "framepack_f0", "magi", "--seeds", "0", "--videos", "1", "--overlay", str(overlay)]
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *options, "--output", str(tmp_path / "out")])
    reproduce.main()
    first = capsys.readouterr().out
    assert "| magi | 1 |" in first
    reproduce.main()
    assert "mpgen" not in capsys.readouterr().out  # nothing was run again


def test_drift_is_compared_with_teacher_forcings_on_the_same_videos(reproduce, tmp_path):
    import reproduce_results as results

    write_scores(tmp_path / "memorypack" / "seed0", 0.8, (True, True, True))
    write_scores(tmp_path / "all" / "seed0", 0.4, (True, True, True))
    teacher, direct = reproduce.gather(tmp_path, ["memorypack", "all"])
    assert results.drift_share([direct], [teacher], "objects drift") == pytest.approx((0.5, 0.5, 0.5))
    assert results.drift_share([direct], [teacher], "chart drift") is None
    assert "| all | 0.50 (0.50 to 0.50) | 0.50 (0.50 to 0.50) |  |" in reproduce.write_results(
        [teacher, direct], tmp_path
    )


def test_the_seeds_of_one_video_do_not_narrow_the_interval_of_a_share(reproduce, tmp_path):
    import reproduce_results as results

    for seed in range(6):
        write_scores(tmp_path / "memorypack" / f"seed{seed}", 0.8, (True, True, True))
        write_scores(tmp_path / "all" / f"seed{seed}", 0.4, (True, True, True))
    found = [spread(result) for result in reproduce.gather(tmp_path, ["all"])]
    teacher = reproduce.gather(tmp_path, ["memorypack"])
    once = results.drift_share(found[:1], teacher[:1], "objects drift")
    assert once[1] < once[2]
    assert results.drift_share(found, teacher, "objects drift") == pytest.approx(once)
    assert results.drift_share(found, teacher[:1], "objects drift") == pytest.approx(once)


def spread(result):
    """The same with drifts that differ from video to video."""
    drifts = {
        column: {name: value * (1 + number) for number, (name, value) in enumerate(sorted(values.items()))}
        for column, values in result.drifts.items()
    }
    return replace(result, drifts=drifts)
