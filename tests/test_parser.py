"""Positional arguments: parameters before `/` of a command's signature."""

from pathlib import Path

import pytest

from mpgen.errors import UserError
from mpgen.parser import run_function


@pytest.fixture
def run():
    """What a command gets when it is called with such words."""
    got: list[tuple] = []

    def score(data: Path, /, kind: str, workers: int = 2) -> None:
        """Score a folder.

        Example:
          mpgen data score DATA --kind x

        Args:
            data: the folder.
            kind: which.
            workers: processes.
        """
        got.append((data, kind, workers))

    def call(*argv: str) -> tuple:
        run_function(score, argv, "mpgen data score")
        return got[-1]

    return call


@pytest.mark.parametrize(
    "argv", [("D", "--kind", "x"), ("--kind", "x", "D"), ("--kind=x", "D"), ("--workers", "2", "D", "--kind", "x")]
)
def test_a_positional_may_stand_anywhere(run, argv):
    assert run(*argv) == (Path("D"), "x", 2)


def test_a_positional_may_come_from_a_config(run, tmp_path):
    (tmp_path / "c.yaml").write_text("data: D\nkind: x\nworkers: 3\n")
    assert run("--config", str(tmp_path / "c.yaml")) == (Path("D"), "x", 3)
    assert run("--config", str(tmp_path / "c.yaml"), "E") == (Path("E"), "x", 3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--kind", "x"), "DATA is missing\nwanted a path"),
        (("D",), "--kind is missing\nwanted text"),
        (("D", "--kind", "x", "--workers", "many"), "--workers: 'many' does not fit\nwanted a whole number"),
        (("D", "E", "--kind", "x"), "unrecognized arguments: E"),
        (("D", "--kidn", "x"), "--kidn is not an option\ndid you mean 'kind'?"),
        (("D", "--kind"), "--kind: wanted a value after it"),
    ],
)
def test_what_does_not_fit_is_told_as_it_was_typed(run, argv, message):
    with pytest.raises(UserError) as caught:
        run(*argv)
    assert message in str(caught.value)


def test_help_shows_the_positional_and_keeps_the_example_in_a_line(run, capsys):
    with pytest.raises(SystemExit):
        run("--help")
    out = capsys.readouterr().out
    assert "positional arguments:\n  data " in out
    assert "Example:\n  mpgen data score DATA --kind x\n" in out
