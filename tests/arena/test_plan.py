import random
from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from mpgen.arena.library import Cell
from mpgen.arena.plan import BLOCK, Shown, next_cell, sides, to_repeat, turn_kinds
from mpgen.arena.store import Pair

CELLS = [Cell(prompt, *pair) for prompt in ("cat", "dog", "sea", "tree", "owl") for pair in combinations("abcd", 2)]


def handed(rater: int, position: int, cell: Cell, left: str, kind: str = "compare", repeats: str = "") -> Pair:
    right = cell.second if left == cell.first else cell.first
    name = f"{rater}/{position}"
    return Pair(name, rater, position, kind, cell.prompt, left, right, "", repeats, 1.0, name + "l", name + "r", 0.0)


@given(st.integers(0, 99), st.integers(1, 50), st.integers(1, 60), st.integers(1, 80))
@settings(max_examples=150, deadline=None)
def test_turns_are_as_many_as_asked_and_as_there_are_cells(seed, rater, turns, cells):
    kinds = turn_kinds(seed, rater, turns, cells)
    assert len(kinds) <= turns
    assert kinds.count("compare") <= cells
    assert len(kinds) == turns or kinds.count("compare") == cells
    assert kinds[0] == "compare"
    assert kinds == turn_kinds(seed, rater, turns, cells)


def test_every_block_has_one_check_and_one_repetition_at_places_nobody_can_foresee():
    blocks = [
        turn_kinds(0, rater, 40, 999)[start : start + BLOCK] for rater in range(100) for start in range(0, 40, BLOCK)
    ]
    for block in blocks:
        assert Counter(block)["repeat"] == 1
        assert Counter(block)["same"] + Counter(block)["degraded"] == 1
    checks = Counter(next(i for i, kind in enumerate(block) if kind in ("same", "degraded")) for block in blocks)
    assert len(checks) == BLOCK - 1
    assert Counter(kind for block in blocks for kind in block)["degraded"] == 200


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 25))
@settings(max_examples=25, deadline=None)
def test_all_cells_and_sides_are_shown_equally_often_whoever_leaves(seed, raters, most):
    rng = random.Random(seed)
    shown = Shown()
    mine: dict[int, list[Pair]] = {rater: [] for rater in range(raters)}
    for _ in range(200):
        rater = rng.randrange(raters)
        if len(mine[rater]) == most:
            continue
        cell = next_cell(rng, CELLS, shown, mine[rater])
        assert cell not in {Cell(pair.prompt, *sorted((pair.left, pair.right))) for pair in mine[rater]}
        mine[rater].append(handed(rater, len(mine[rater]), cell, sides(rng, cell, shown)[0]))
        shown.add(mine[rater][-1])
    counts = [shown.cells[cell] for cell in CELLS]
    # a cell may wait while everybody at hand has seen it
    assert max(counts) - min(counts) <= (1 if len(mine) == 1 else 2)
    assert all(abs(lead) <= 1 for lead in shown.first_left.values())


def test_a_rater_meets_every_pair_of_methods_before_one_comes_again():
    rng, shown, mine = random.Random(0), Shown(), []
    for position in range(12):
        cell = next_cell(rng, CELLS, shown, mine)
        mine.append(handed(1, position, cell, cell.first))
        shown.add(mine[-1])
    for start in (0, 6):
        assert len({(pair.left, pair.right) for pair in mine[start : start + 6]}) == 6


def test_a_pair_is_repeated_once_and_not_at_once():
    mine = [handed(1, position, CELLS[position], CELLS[position].first) for position in range(5)]
    assert {to_repeat(random.Random(seed), mine).id for seed in range(30)} == {"1/0", "1/1"}
    mine += [handed(1, 5, CELLS[0], CELLS[0].second, "repeat", "1/0"), handed(1, 6, CELLS[6], CELLS[6].first, "same")]
    assert "1/0" not in {to_repeat(random.Random(seed), mine).id for seed in range(30)}
    assert to_repeat(random.Random(0), mine[:3]) is None
