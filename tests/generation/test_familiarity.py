"""A start image that the model cannot know is told."""

import numpy as np
import pytest
import torch

from mpgen.encoders.tiny import TinyEncoders
from mpgen.generation.familiarity import unfamiliar
from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings


def asked(frame: np.ndarray) -> str | None:
    return unfamiliar(TinyEncoders().vae, frame, torch.device("cpu"))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_first_frames_of_the_world_are_familiar_to_what_was_trained_on_it(family):
    scene = sample_scene(WorldSettings(size_px=64), family, 49, (5,))
    assert asked(next(iter(render_scene(scene, 64)))) is None


def test_other_pictures_are_told_in_a_line():
    stripes = np.kron(np.random.default_rng(0).integers(0, 2, (16, 16, 3)) * 255, np.ones((4, 4, 1))).astype(np.uint8)
    said = asked(stripes)
    assert said.startswith("warning: the start image is far from what this model was trained on")
    assert "\n" not in said


def test_an_autoencoder_that_was_trained_on_everything_is_not_asked():
    vae = TinyEncoders().vae
    vae.familiar_db = None
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert asked(noise) is not None
    assert unfamiliar(vae, noise, torch.device("cpu")) is None
