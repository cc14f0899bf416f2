"""Recipes side by side: what fits, by how much the rest does not, and what is nearest."""

import shlex
import sys
from pathlib import Path

import pytest

from mpgen import cli
from mpgen.errors import UserError
from mpgen.planner import command
from mpgen.planner.needs import Assumptions
from mpgen.planner.recipes import Outcome, Recipe, compare, read_recipes
from mpgen.planner.summary import GIB

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "configs" / "recipes"
USABLE = 0.92 * 24e9


def outcome(name: str, parameters: float, trained: float, gib: float) -> Outcome:
    return Outcome(Recipe(name, f"who wants {name}", ()), int(parameters), int(trained), 1, gib * GIB, 2.0, 3.5)


WHOLE, LORA = outcome("whole", 13e9, 13e9, 40), outcome("lora", 13e9, 2e8, 18)
SMALL, HEAD = outcome("small", 1.3e9, 1.3e9, 19), outcome("head", 13e9, 2e7, 17)


def test_what_does_not_fit_says_by_how_much_and_names_the_nearest_that_does():
    said = compare([WHOLE, SMALL, HEAD, LORA], Assumptions(gpu_memory_gb=24))
    assert f"by {40 - USABLE / GIB:.1f} GiB not" in said
    assert "whole: the nearest that fits is lora (18.0 GiB)" in said  # the same network, and more of it than the head
    assert "lora: for who wants lora" in said
    assert "small: the nearest" not in said


def test_where_the_network_itself_is_too_large_a_smaller_one_is_named():
    assert "whole: the nearest that fits is small (19.0 GiB)" in compare([WHOLE, SMALL], Assumptions(gpu_memory_gb=24))


def test_where_nothing_fits_the_least_is_named():
    said = compare([WHOLE, LORA], Assumptions(gpu_memory_gb=8))
    assert said.count("no recipe fits; lora needs least, 18.0 GiB") == 2


def test_every_recipe_says_whom_it_is_for_what_it_needs_and_what_was_verified():
    for recipe in read_recipes(RECIPES):
        path = RECIPES / f"{recipe.name}.yaml"
        header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        for wanted in ("# For: ", "#   mpgen fit ", "# By mpgen plan: ", "# Verified: "):
            assert any(line.startswith(wanted) for line in header), (path, wanted)
        assert recipe.options[-1] == f"configs/recipes/{recipe.name}.yaml"
        assert all((ROOT / part).exists() for part in recipe.options[1::2])


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no recipes there"), ("run: runs/x\n", "wanted a header"), ("# For: me\nrun: runs/x\n", "wanted a header")],
)
def test_a_folder_without_recipes_is_told_so(text, said, tmp_path):
    if text is not None:
        (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_recipes(tmp_path)


def test_the_command_plans_every_recipe_with_the_options_given(monkeypatch, tmp_path, capsys):
    options = ["--config", str(ROOT / "configs/scratch.yaml")]
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"# For: {name}\n#   mpgen fit {shlex.join(options)}\n")
    given = []

    def plan_recipe(recipe, module, videos, machines, assumed):
        given.append((recipe.name, videos.steps, machines.gpus, assumed.gpu_memory_gb, module.recompute))
        return outcome(recipe.name, 1e6, 1e6, 1)

    monkeypatch.setattr(command, "plan_recipe", plan_recipe)
    words = ["--recipes", str(tmp_path), "--gpu_memory_gb", "80,24", "--gpus", "2", "--steps", "7"]
    monkeypatch.setattr(sys, "argv", ["mpgen", "plan", *words, "--model.recompute", "full"])
    cli.main()
    assert given == [("one", 7, 2, 24.0, "full"), ("two", 7, 2, 24.0, "full")]  # ranks hold the same: the smallest card
    assert "two: for who wants two" in capsys.readouterr().out
