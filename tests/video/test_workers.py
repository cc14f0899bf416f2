"""Laws of working in processes that may hang or die; items are calls, which a fresh process can import."""

import operator
import os
import signal
import time
from functools import partial

import pytest

from mpgen.data.parts import Part
from mpgen.errors import UserError
from mpgen.video.clips import read_video
from mpgen.video.workers import Failure, run_in_workers

HANG = partial(time.sleep, 600)
SEGFAULT = partial(signal.raise_signal, signal.SIGSEGV)
EXIT = partial(os._exit, 3)
BAD_VIDEO = partial(read_video, "none.mp4")
BUG = partial(divmod, 1, 0)
NOTHING = partial(time.sleep, 0)
LARGE = partial(bytes, 3_000_000)


def test_what_hangs_dies_or_fails_costs_its_item_and_no_other():
    good = [partial(pow, number, 2) for number in range(7)]
    items = [*good[:2], HANG, SEGFAULT, EXIT, *good[2:4], BAD_VIDEO, BUG, NOTHING, LARGE, *good[4:]]
    came_to = dict(run_in_workers(operator.call, items, num_workers=2, timeout_seconds=3))
    assert list(map(came_to.get, good)) == [0, 1, 4, 9, 16, 25, 36]
    assert came_to[HANG] == Failure("timeout", "took longer than 3 s")
    assert came_to[SEGFAULT] == Failure("crash", "its process was killed by SIGSEGV")
    assert came_to[EXIT] == Failure("crash", "its process ended with status 3")
    assert came_to[BAD_VIDEO] == Failure("missing", "no such file")
    assert came_to[BUG].reason == "unexpected"
    assert came_to[BUG].detail.startswith("ZeroDivisionError: ")
    assert came_to[NOTHING] is None
    assert came_to[LARGE] == LARGE()
    assert len(came_to) == len(items)


def test_a_mistake_in_the_settings_ends_the_run_in_the_users_words():
    with pytest.raises(UserError, match="wanted i/n"):
        list(run_in_workers(operator.call, [partial(Part.parse, "5")], 1, 30))


def test_items_are_taken_only_when_a_worker_is_free():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield partial(abs, number)

    running = run_in_workers(operator.call, items(), 2, 30)
    for _ in range(3):
        next(running)
    running.close()
    assert len(taken) <= 3 + 2


def test_nothing_to_do_is_done_at_once():
    assert list(run_in_workers(operator.call, [], 2, 30)) == []
