"""Processes of their own for tests that need them, forked from one, so that the long imports are made once."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path


def run_side_by_side(tasks: Sequence[Callable[[], object]]) -> list[int]:
    """Runs each task in a fork of this process, all at once.

    Returns:
        how each ended: 0, 1 after an error, minus a signal's number.
    """
    children = []
    for task in tasks:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                task()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def start(script: Path, *arguments: object) -> subprocess.Popen:
    """A script of tests, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, seconds: float) -> None:
    """Waits for a script that must succeed; what hangs is ended with all its forks."""
    try:
        said = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said = "hung: " + process.communicate()[0]
    assert process.returncode == 0, said[-6000:]
