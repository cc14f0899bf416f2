"""The command line of a function: positional arguments, flags, and options that exclude each other by structure."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from mpgen.errors import UserError
from mpgen.options import Options
from mpgen.parser import run_function


@pytest.fixture
def run():
    """What a command gets when it is called with such words."""
    got: list[tuple] = []

    def score(data: Path, /, kind: str, workers: int = 2, again: bool = False) -> None:
        """Score a folder.

        Example:
          mpgen data score DATA --kind x

        Args:
            data: the folder.
            kind: which.
            workers: processes.
            again: once more.
        """
        got.append((data, kind, workers) + (again,) * again)

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
        (("--kind", "x"), "arguments are required: data"),
        (("D",), "arguments are required: kind"),
        (("D", "--kind", "x", "--workers", "many"), "--workers: Expected a whole number. Got value: many"),
        (("D", "E", "--kind", "x"), "unrecognized arguments: E"),
        (("D", "--kidn", "x"), "unrecognized arguments: --kidn x; did you mean 'kind'?"),
        (("D", "--kind"), "argument --kind: expected one argument"),
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


@pytest.mark.parametrize(
    ("argv", "again"),
    [
        (("D", "--kind", "x", "--again"), True),
        (("--again", "D", "--kind", "x"), True),
        (("--again", "--kind", "x", "D"), True),
        (("D", "--kind", "x", "--again", "true"), True),
        (("D", "--kind", "x", "--again=true"), True),
        (("D", "--kind", "x", "--again", "false"), False),
        (("D", "--again=false", "--kind", "x"), False),
    ],
)
def test_a_flag_may_stand_alone_or_have_a_value(run, argv, again):
    assert run(*argv) == (Path("D"), "x", 2) + (True,) * again


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: &a\n  - *a\n", "line 1: an anchor that holds itself"),
        ("data: &a\n  inner: {deeper: *a}\n", "an anchor that holds itself"),
        ("data: [1,\n", "not YAML"),
        ("data: D\nkind: x\nworkers: null\n", "workers: given null"),
        ("kidn: x\n", "kidn: Option 'kidn' is not accepted; did you mean 'kind'?"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line_with_the_file(run, tmp_path, text, said):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(UserError) as caught:
        run("--config", str(config))
    assert str(caught.value).startswith(f"{config}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Circle(Options):
    """A circle.

    Args:
        radius: half its width.
        colour: of its edge.
    """

    radius: float
    colour: str = "red"


@dataclass(frozen=True)
class Box(Options):
    """A box.

    Args:
        width: of it.
        height: of it.
        colour: of its edge.
    """

    width: float
    height: float
    colour: str = "red"


@dataclass(frozen=True)
class Nothing(Options):
    """Nothing is drawn."""


@pytest.fixture
def draw():
    """What a command gets whose options exclude each other."""
    got: list[object] = []

    def drawn(shape: Circle | Box | Nothing, times: int = 1) -> None:
        """Draws.

        Args:
            times: how often.
        """
        got.append(shape)

    def call(*argv: str) -> object:
        run_function(drawn, argv, "mpgen draw")
        return got[-1]

    return call


@pytest.mark.parametrize(
    ("argv", "shape"),
    [
        ((), Nothing()),
        (("--radius", "2"), Circle(2.0)),
        (("--width", "1", "--height", "2", "--colour", "blue"), Box(1.0, 2.0, "blue")),
    ],
)
def test_what_is_given_chooses_the_class(draw, argv, shape):
    assert draw(*argv) == shape


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ("--radius", "2", "--width", "1"),
            "given --radius and --width: wanted one of --radius, --width with --height",
        ),
        (("--width", "1"), "--width: wanted --height with it"),
        (("--colour", "blue"), "--colour does not go: wanted --radius or --width"),
        (("--radius", "x"), "--radius: Expected a number. Got value: x"),
    ],
)
def test_options_that_exclude_each_other_are_named(draw, argv, said):
    with pytest.raises(UserError) as caught:
        draw(*argv)
    assert str(caught.value) == said
