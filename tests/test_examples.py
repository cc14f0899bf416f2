"""configs/examples: that the overlay trains is tested with all configs (test_configs.py); here, what comes after."""

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from mpgen.checkpoints import load_for_generation

ROOT = Path(__file__).parents[1]
FORCING, MEMORY = "configs.examples.noisy_teacher", "configs.examples.running_mean"


def test_a_forcing_and_a_memory_of_ones_own_train_and_are_found_again(
    fit, make_module, make_small_data, tmp_path, monkeypatch
):
    """From the working folder, where the checkpoint's names may be imported."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend("")
    forcing, memory = (getattr(import_module(m), n)() for m, n in ((FORCING, "NoisyTeacher"), (MEMORY, "RunningMean")))
    config = replace(make_module().denoiser_config, memory=memory)
    fit(make_module(denoiser=config, forcing=forcing), make_small_data(), tmp_path, 1)
    for name in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    model = load_for_generation(tmp_path / "last.ckpt", torch.device("cpu"))
    assert type(model.denoiser.memory).__name__ == "RunningMeanMemory"
