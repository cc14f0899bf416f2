"""Work on untrusted files in processes of their own: one that hangs or dies costs its item, never the run.

Why not a pool of the standard library: `ProcessPoolExecutor` and `multiprocessing.Pool` have no time limit for an item,
and one dead process breaks the first for good and leaves the second waiting for ever.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Generic, TypeVar

from mpgen.errors import UserError
from mpgen.video.errors import VideoError

Item = TypeVar("Item")
Result = TypeVar("Result")
STARTUP_SECONDS = 300  # for the imports of a fresh process, on a busy machine with a cold disk


@dataclass(frozen=True)
class Failure:
    """What an item came to that has no result.

    Args:
        reason: a short code, to count by: that of the `VideoError`, or `timeout`, `crash`, `unexpected`.
        detail: the reason in words, one line.
    """

    reason: str
    detail: str


def run_in_workers(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int, timeout_seconds: float | int
) -> Iterator[tuple[Item, Result | Failure]]:
    """Calls `function` on every item in other processes; yields items with what they came to, as they are done.

    Items are taken as workers get free, so there may be any number of them.

    Args:
        function: defined at the top of a module (or a `partial` of such), because processes are spawned.
        items: what to work on; small, and picklable like the results.
        num_workers: processes, at least 1.
        timeout_seconds: for one item; a process that takes longer is killed.

    Raises:
        UserError: one that the function raised, other than a `VideoError`: it would meet every item.
        RuntimeError: processes cannot be started.
    """
    assert num_workers >= 1, f"{num_workers} workers"
    todo = iter(items)
    busy: dict[Connection, _Worker[Item, Result]] = {}
    try:
        for item in todo:
            worker = _Worker(function, timeout_seconds)
            busy[worker.connection] = worker
            worker.give(item)
            if len(busy) == num_workers:
                break
        while busy:
            deadline = min(worker.deadline for worker in busy.values())
            reported = wait(list(busy), timeout=max(0.0, deadline - time.monotonic()))
            overdue = [c for c, worker in busy.items() if c not in reported and worker.deadline <= time.monotonic()]
            for connection in [*reported, *overdue]:
                worker = busy[connection]
                outcomes = worker.give_up() if connection in overdue else worker.receive()
                if not outcomes:  # it has only just started
                    continue
                if isinstance(outcomes[0], UserError):
                    raise outcomes[0]
                yield worker.item, outcomes[0]
                del busy[connection]
                for item in todo:
                    if worker.ended:
                        worker = _Worker(function, timeout_seconds)
                    busy[worker.connection] = worker
                    worker.give(item)
                    break
                else:
                    worker.end()
    finally:
        for worker in busy.values():
            worker.end()


class _Worker(Generic[Item, Result]):
    """A process that works on one item at a time."""

    def __init__(self, function: Callable[[Item], Result], timeout_seconds: float | int) -> None:
        context = get_context("spawn")  # the caller may have started threads, which a fork would break
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that the death of the process is the end of the pipe
        self.timeout_seconds = timeout_seconds
        self.started = False
        self.ended = False
        self.deadline = time.monotonic() + STARTUP_SECONDS

    def give(self, item: Item) -> None:
        self.item = item
        if self.started:
            self.deadline = time.monotonic() + self.timeout_seconds
        with suppress(BrokenPipeError):  # it died after its last result: `receive` will say so
            self.connection.send(item)

    def receive(self) -> tuple[()] | tuple[Result | Failure | UserError]:
        """What the process reports: a result, or its own death; nothing when it has only just started."""
        try:
            report = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5.0)  # its end of the pipe is closed already, its status comes a moment later
            self.end()
            self._must_have_started()
            return (Failure("crash", f"its process {_in_words(self.process.exitcode)}"),)
        if not self.started:
            self.started = True
            self.deadline = time.monotonic() + self.timeout_seconds
        return report

    def give_up(self) -> tuple[Failure]:
        self.end()
        self._must_have_started()
        return (Failure("timeout", f"took longer than {self.timeout_seconds:g} s"),)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.ended = True

    def _must_have_started(self) -> None:
        if not self.started:
            raise RuntimeError(f"a worker process does not start: it {_in_words(self.process.exitcode)}")


def _serve(function: Callable[[Item], Result], connection: Connection) -> None:
    """The life of a worker: says that it is there, then answers every item until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    end_with_parent()
    connection.send(())
    while True:
        try:
            item = connection.recv()
        except (EOFError, OSError):  # the parent is gone
            return
        connection.send((_attempt(function, item),))


def end_with_parent() -> None:
    """From now on this process ends with its parent, also with one that is killed while an item is worked on."""
    Thread(target=_wait_for_parent, daemon=True, name="end with parent").start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | Failure | UserError:
    try:
        return function(item)
    except VideoError as error:
        return Failure(error.reason, error.detail)
    except UserError as error:
        return error
    except Exception as error:  # whatever a file brings about, the other files are not to suffer
        return Failure("unexpected", " ".join(f"{type(error).__name__}: {error}".split())[:300])


def _in_words(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with status {exitcode}"
