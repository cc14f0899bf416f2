"""A studio's engine on a small trained model, in this process."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mpgen.checkpoints import LoadedModel, load_for_generation
from mpgen.generation.sizes import OwnSize
from mpgen.generation.weights import Trained
from mpgen.studio.request import Request
from mpgen.studio.worker import Worker


@pytest.fixture(scope="session")
def studio_model(trained) -> LoadedModel:
    """32 x 32 pixels, sections of 8 frames at 24 a second."""
    return load_for_generation(trained, torch.device("cpu"))


@pytest.fixture
def make_worker(studio_model, trained, tmp_path) -> Iterator[Callable[..., Worker]]:
    """Workers on one folder; each call is a restart."""
    workers: list[Worker] = []

    def make(folder: Path = tmp_path / "studio", started: bool = True) -> Worker:
        for worker in workers:
            worker.close()
        workers.append(Worker(studio_model, Trained(trained), OwnSize(), folder))
        if started:
            workers[-1].start()
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


def scene(**fields: object) -> Request:
    """A request of two sections, two steps each."""
    given = {"kind": "scene", "source": "bounce", "seconds": 0.6, "denoising": {"steps": 2}}
    return Request(**given | fields)


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for another thread."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "nothing came of it"
        time.sleep(0.005)


def states(worker: Worker) -> list[str]:
    return [task.state for task in worker.queue]
