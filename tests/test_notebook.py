"""The notebook of first steps: its cells run in order, with numbers made small."""

import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
SMALL = "SECONDS, VIDEOS, STEPS = 2.0, 32, 2"


def cells() -> list[dict]:
    notebook = json.loads((ROOT / "tools" / "first_steps.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_outputs_and_its_cells_are_python():
    for cell in cells():
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        source = "".join(cell["source"])
        if not source.startswith("%"):
            compile(source, "cell", "exec")
    assert len(cells()) == 6
    assert cells()[1]["metadata"]["tags"] == ["parameters"]


@pytest.mark.slow
def test_the_notebook_generates_trains_and_plots(tmp_path, monkeypatch):
    (tmp_path / "tools").mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path / "tools")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    plt.switch_backend("agg")
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    names: dict = {}
    for cell in cells():
        source = "".join(cell["source"])
        if "parameters" in cell["metadata"].get("tags", []):
            source = SMALL
        if not source.startswith("%"):
            exec(compile(source, "cell", "exec"), names)
    plt.close("all")
    assert len(shown) == 3
    assert (len(names["frames"]), len(names["own_frames"])) == (25, 49)  # at 12 and 24 a second
    assert [*names["curve"].steps] != []
