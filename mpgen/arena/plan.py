"""What a rater is shown next, as pure functions: the same seed, rater and history give the same, also after a restart.

Comparisons go to the least shown (prompt, two methods), so that all are judged equally often however many raters come
and whenever they leave. In every block of turns one is an attention check and one repeats an earlier pair with its
sides changed, at places that nobody can foresee.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mpgen.arena.library import Cell
from mpgen.arena.store import Kind, Pair

BLOCK = 10
REPEAT_AFTER = 3  # turns at least between a pair and its repetition


def turn_kinds(seed: int, rater: int, turns: int, cells: int) -> list[Kind]:
    """What each turn of a rater is for: at most `turns`, and no more comparisons than there are cells.

    The two kinds of check take turns, and every second rater begins with the other.
    """
    rng = random.Random(f"{seed} kinds {rater}")
    kinds: list[Kind] = []
    block = min(BLOCK, turns)
    for number in range(-(-turns // BLOCK)):
        check: Kind = "same" if (number + rater) % 2 else "degraded"
        turn_of: dict[int, Kind] = {}
        if block == BLOCK:
            turn_of[rng.randrange(block - REPEAT_AFTER, block)] = "repeat"
        free = [turn for turn in range(1, block) if turn not in turn_of]
        if free:
            turn_of[rng.choice(free)] = check
        kinds += [turn_of.get(turn, "compare") for turn in range(block)]
    compares = [sum(kind == "compare" for kind in kinds[: end + 1]) for end in range(len(kinds))]
    return [kind for kind, count in zip(kinds, compares, strict=True) if count <= cells][:turns]


@dataclass
class Shown:
    """How often everything was handed out so far."""

    cells: Counter[Cell] = field(default_factory=Counter)
    first_left: Counter[tuple[str, str]] = field(default_factory=Counter)  # minus the times it was on the right

    def add(self, pair: Pair) -> None:
        if pair.kind == "compare":
            cell = cell_of(pair)
            self.cells[cell] += 1
            self.first_left[cell.first, cell.second] += 1 if pair.left == cell.first else -1


def cell_of(pair: Pair) -> Cell:
    return Cell(pair.prompt, *sorted((pair.left, pair.right)))


def next_cell(rng: random.Random, cells: Sequence[Cell], shown: Shown, mine: Sequence[Pair]) -> Cell:
    """The least shown cell that this rater has not seen, rather with methods and a prompt new to the rater.

    Once the rater has seen all of them, which only a library that has shrunk since can cause, any of the least shown.
    """
    compared = [cell_of(pair) for pair in mine if pair.kind == "compare"]
    seen = set(compared)
    methods = Counter((cell.first, cell.second) for cell in compared)
    prompts = Counter(cell.prompt for cell in compared)
    return min(
        cells,
        key=lambda cell: (
            cell in seen,
            shown.cells[cell],
            methods[cell.first, cell.second],
            prompts[cell.prompt],
            rng.random(),
        ),
    )


def sides(rng: random.Random, cell: Cell, shown: Shown) -> tuple[str, str]:
    """Left and right: the side that these two methods had less often, by lot if equal."""
    lead = shown.first_left[cell.first, cell.second]
    first_left = rng.random() < 0.5 if lead == 0 else lead < 0
    return (cell.first, cell.second) if first_left else (cell.second, cell.first)


def to_repeat(rng: random.Random, mine: Sequence[Pair]) -> Pair | None:
    """One of this rater's comparisons that is some turns old and was not repeated yet."""
    repeated = {pair.repeats for pair in mine}
    old = [pair for pair in mine[: -REPEAT_AFTER or None] if pair.kind == "compare" and pair.id not in repeated]
    return rng.choice(old) if old else None
