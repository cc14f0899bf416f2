"""`mpgen plan --recipes`: the training recipes side by side for one kind of GPU, and for each that does not fit the
nearest that does.

A recipe is a config whose header names whom it is for and the command that lays it over others; nothing else lists
them, so a file of yours in the folder is compared too.
"""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mpgen.errors import UserError
from mpgen.planner.needs import Assumptions, Machines, Network, memory_need, pace
from mpgen.planner.summary import DAY_SECONDS, GIB, Videos
from mpgen.text_table import aligned
from mpgen.training.dry_run import dry_run
from mpgen.training.module import LongVideoModule

COMMAND, PURPOSE = re.compile(r"^#\s+mpgen fit (.+)$", re.MULTILINE), re.compile(r"^# For: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Recipe:
    """A config and what its header says.

    Args:
        name: of the file.
        purpose: whom it is for.
        options: of its command, after `mpgen fit`.
    """

    name: str
    purpose: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a recipe needs.

    Args:
        recipe: which one.
        parameters: of its network.
        trained: of them, those that learn.
        gpus: that it is planned over.
        need_bytes: of each GPU.
        step_seconds: of one step.
        days: of the run; None where the number of steps is not said.
    """

    recipe: Recipe
    parameters: int
    trained: int
    gpus: int
    need_bytes: float | int
    step_seconds: float | int
    days: float | int | None


def read_recipes(folder: Path) -> list[Recipe]:
    """The recipes of a folder, by name.

    Raises:
        UserError: there are none, or a header lacks its command or whom it is for.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UserError(f"--recipes {folder}: no recipes there; wanted a folder such as configs/recipes of mpgen")
    found = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        command, purpose = COMMAND.search(text), PURPOSE.search(text)
        if command is None or purpose is None:
            raise UserError(f"{path}: wanted a header with the lines '# For: ...' and '#   mpgen fit --config ...'")
        found.append(Recipe(path.stem, purpose[1], tuple(shlex.split(command[1]))))
    return found


def plan_recipe(
    recipe: Recipe, module: LongVideoModule, videos: Videos, machines: Machines, assumed: Assumptions
) -> Outcome:
    """Memory and days, by one dry run of the recipe as it is."""
    network = Network.of(module)
    trial = dry_run(module, videos.shape, machines.precision)
    need = memory_need(module, network, machines, trial)
    sections = round(videos.mean_sections)
    speed = pace(network, machines, trial, assumed, sections, module.accumulate_batches, module.context_parallel)
    days = None if videos.steps is None else videos.steps * speed.step / DAY_SECONDS
    return Outcome(recipe, network.total, network.trainable.count, machines.gpus, need.total, speed.step, days)


def compare(outcomes: Iterable[Outcome], assumed: Assumptions) -> str:
    """The recipes as a table, and what each is for; what does not fit names the nearest that does."""
    outcomes = list(outcomes)
    usable = assumed.usable * assumed.gpu_memory_gb * 1e9
    rows = [["recipe", "network", "trains", "GPUs", "GiB a GPU", "s a step", "days", "fits"]]
    for one in outcomes:
        over = one.need_bytes - usable
        rows.append([
            one.recipe.name, f"{one.parameters / 1e9:.3g} B", f"{one.trained / 1e6:,.1f} M", str(one.gpus),
            f"{one.need_bytes / GIB:.1f}", f"{one.step_seconds:.3g}", "?" if one.days is None else f"{one.days:.1f}",
            "yes" if over <= 0 else f"by {over / GIB:.1f} GiB not",
        ])  # fmt: skip
    lines = [
        f"{assumed.gpu} with {assumed.gpu_memory_gb:g} GB, {assumed.usable:.0%} of it usable ({usable / GIB:.1f} GiB), "
        f"{assumed.mfu:.0%} of {assumed.peak_flops / 1e12:g} TFLOP/s",
        "",
        aligned(rows),
        "",
    ]
    for one in outcomes:
        if one.need_bytes > usable:
            lines.append(f"{one.recipe.name}: {_nearest(one, outcomes, usable)}")
    lines += [f"{one.recipe.name}: for {one.recipe.purpose}" for one in outcomes if one.need_bytes <= usable]
    return "\n".join(lines)


def _nearest(one: Outcome, outcomes: Iterable[Outcome], usable: float) -> str:
    """Of those that fit: on a network of about the same size if there is one, and then what trains most like it."""
    fitting = [other for other in outcomes if other.need_bytes <= usable]
    if not fitting:
        least = min(outcomes, key=lambda other: other.need_bytes)
        return f"no recipe fits; {least.recipe.name} needs least, {least.need_bytes / GIB:.1f} GiB"

    def distance(other: Outcome) -> tuple[bool, float]:
        ratio = max(one.parameters, other.parameters) / min(one.parameters, other.parameters)
        return ratio > 1.5, max(one.trained, other.trained) / min(one.trained, other.trained)

    nearest = min(fitting, key=distance)
    return f"the nearest that fits is {nearest.recipe.name} ({nearest.need_bytes / GIB:.1f} GiB)"
