"""The objective on a small network with few options to give."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mpgen.flow import LogitNormal
from mpgen.training.forcing import DirectForcing
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import SectionLoss, section_losses

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
def losses(latents, make_conditioning) -> Callable[..., list[SectionLoss]]:
    """All sections of two videos, with a backward pass after each where `backward` asks for it."""

    def run(denoiser, forcing=DirectForcing(), backward: bool = False, uids=("a", "b"), sections=SECTIONS, **options):  # noqa: B008
        given = {"memory_windows": 2, "guidance_scale": 4.0, "sigma_draw": LogitNormal(), "noise": KeyedNoise(0, 5)}
        start, clean, conditioning = latents(2, 1), latents(2, 3 * sections, seed=1), make_conditioning(4, 2)
        found = []
        for section in section_losses(denoiser, start, clean, conditioning, uids, forcing=forcing, **given | options):
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
