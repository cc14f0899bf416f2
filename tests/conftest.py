"""How the tests are run. What they share is in tests/fixtures, and is imported only by processes that run tests."""

import os

import pytest

# Small products are no faster on several threads, and threads that wait for each other beside other processes (pytest
# -n auto, the commands that tests run) take twenty times as long.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Imports what tests share, but not in the process that hands out tests to workers: that takes seconds."""
    if config.getoption("dist", "no") == "no":
        for name in ("small_models", "videos"):
            config.pluginmanager.import_plugin(name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Each of pytest-xdist's workers begins with one stretch of files, so that few fixtures are made twice."""
    if config.getvalue("dist") != "load":  # what `-n` means
        return None
    from xdist.scheduler.worksteal import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
