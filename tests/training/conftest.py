"""The objective on a small network with few options to give."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mpgen.data.dataset import VideoBatch
from mpgen.flow import LogitNormal
from mpgen.training.forcing import DirectForcing
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import Objective, SectionLoss
from mpgen.training.targets import NextSection

SECTIONS = 3


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Folders that are filled by the first of pytest-xdist's workers that wants one, and used by all."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def filled(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return filled


@pytest.fixture
def make_batch(latents, make_conditioning) -> Callable[..., VideoBatch]:
    """Two videos of so many sections."""

    def make(sections: int = SECTIONS, num_given: int = 0) -> VideoBatch:
        return VideoBatch(
            start=latents(2, 1),
            latents=latents(2, 3 * sections, seed=1),
            conditioning=make_conditioning(4, 2).guided(4.0),
            num_sections=sections,
            uids=("a", "b"),
            captions=("", ""),
            num_given=num_given,
        )

    return make


@pytest.fixture
def losses(make_batch) -> Callable[..., list[SectionLoss]]:
    """All sections of two videos, with a backward pass after each where `backward` asks for it."""

    def run(
        denoiser,
        forcing=DirectForcing(),  # noqa: B008
        backward: bool = False,
        sigma=LogitNormal(),  # noqa: B008
        target=NextSection(),  # noqa: B008
        noise=KeyedNoise(0, 5),  # noqa: B008
        num_given: int = 0,
    ) -> list[SectionLoss]:
        found = []
        for section in Objective(forcing, sigma, target).losses(denoiser, make_batch(num_given=num_given), noise):
            if backward:
                section.loss.backward()
            found.append(section)
        return found

    return run


@pytest.fixture
def gradients() -> Callable[[torch.nn.Module], dict[str, torch.Tensor]]:
    """The gradients of a module by name, which are taken away from it."""

    def take(module: torch.nn.Module) -> dict[str, torch.Tensor]:
        taken = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        module.zero_grad(set_to_none=True)
        return taken

    return take
