import numpy as np
import pytest
import torch

from mpgen.checkpoints import LoadedModel, load_for_generation
from mpgen.world.families import sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings


@pytest.fixture(scope="session")
def model(trained) -> LoadedModel:
    """A trained model: 32 x 32 pixels, sections of 8 frames."""
    return load_for_generation(trained, torch.device("cpu"))


@pytest.fixture(scope="session")
def scene_frames() -> np.ndarray:
    """A scene of 25 frames, 32 x 32 pixels."""
    return render_scene(sample_scene(WorldSettings(size_px=32), "bounce", 25, (5,)), 32)
