"""`mpgen compare` on folders as runs leave them."""

import json

import pytest
import yaml

from mpgen.comparison.command import compare
from mpgen.comparison.runs import read_run
from mpgen.errors import UserError


@pytest.fixture
def make_run(tmp_path):
    """A run's folder: a config, the losses of each start from a step on, and a world's score."""

    def make(name, forcing, starts, score):
        run = tmp_path / name
        config = {"run": name, "model": {"forcing": {"class_path": forcing}, "seed": 0, "train": ["*"]}}
        for number, (first, losses) in enumerate(starts):
            (run / "csv" / f"start{number}").mkdir(parents=True)
            rows = [f"0,{loss},,{first + step}" for step, loss in enumerate(losses)]
            text = "\n".join(["epoch,loss,val_loss,step", *rows, "0,,0.5,3"])
            (run / "csv" / f"start{number}" / "metrics.csv").write_text(text)
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        summary = {"generated": {"found": {"all": {"mean": score, "half_width": 0.1, "count": 4}}}}
        (run / "suite").mkdir()
        (run / "suite" / "scores.json").write_text(json.dumps({"summary": summary}))
        return run

    return make


def test_two_runs_stand_side_by_side(make_run, tmp_path, capsys):
    one = make_run("one", "DirectForcing", [(0, [4.0, 3.0, 9.0]), (2, [2.0, 1.0])], 0.5)
    other = make_run("other", "StudentForcing", [(0, [4.0, 4.0, 4.0, 3.0])], 0.75)
    compare(one, other, output=tmp_path / "c.html")
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model.forcing.class_path", "DirectForcing", "StudentForcing"] in said
    assert not any(line[:1] in (["run"], ["model.seed"], ["model.train[0]"]) for line in said)  # alike, or no matter
    assert ["steps", "4", "4"] in said
    assert ["loss", "1", "3", "+2"] in said  # the last quarter is step 3
    assert ["suite:", "found", "0.500", "±0.100", "0.750", "±0.100", "+0.250"] in said
    page = (tmp_path / "c.html").read_text()
    assert "<svg" in page
    assert "StudentForcing" in page


def test_a_later_start_counts_where_two_logged_a_step(make_run):
    curve = read_run(make_run("one", "A", [(0, [4.0, 3.0, 9.0]), (2, [2.0, 1.0])], 0.5)).curves["loss"]
    assert curve.steps.tolist() == [0, 1, 2, 3]
    assert curve.values.tolist() == [4.0, 3.0, 2.0, 1.0]


def test_scores_of_something_else_are_one_line(make_run):
    run = make_run("one", "A", [(0, [1.0])], 0.5)
    (run / "suite" / "scores.json").write_text('{"summary": [1]}')
    with pytest.raises(UserError, match=r"scores\.json: wanted what mpgen evaluate wrote"):
        read_run(run)
