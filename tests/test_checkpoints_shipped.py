"""Weights that come with mpgen are found by name, unless something of the user's is there."""

from pathlib import Path

from mpgen.checkpoints import shipped
from mpgen.checkpoints.shipped import locate


def test_a_name_stands_for_shipped_weights_unless_the_user_has_such_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    (tmp_path / "package" / "tiny").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert locate(Path("tiny")) == tmp_path / "package" / "tiny"
    assert locate(Path("other")) == Path("other")
    assert locate(Path("runs/tiny")) == Path("runs/tiny")
    Path("tiny").mkdir()
    assert locate(Path("tiny")) == Path("tiny")
