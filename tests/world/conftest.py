"""A few stories of the world with decoded true videos, shared by the tests of the scores."""

from dataclasses import dataclass

import numpy as np
import pytest

from mpgen.video.clips import read_video
from mpgen.video.writing import VideoWriter
from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.render import render_chunks
from mpgen.world.scenes import Scene
from mpgen.world.settings import WorldSettings
from mpgen.world.truth import Truth, build_truth


@dataclass(frozen=True)
class Story:
    """A scene, its truth, and its video as a decoder gives it back."""

    scene: Scene
    truth: Truth
    frames: np.ndarray


@pytest.fixture(scope="session")
def stories(tmp_path_factory) -> dict[str, Story]:
    """One story of each family, 129 frames of 64 px, after H.264."""
    folder = tmp_path_factory.mktemp("stories")
    made = {}
    for family in FAMILIES:
        scene = sample_scene(WorldSettings(), family, 129, (11, 4))
        chunks = list(render_chunks(scene, 64))
        path = folder / f"{family}.mp4"
        with VideoWriter(path, scene.fps, 64, 64, crf=12) as video:
            for frame in np.concatenate([chunk.frames for chunk in chunks]):
                video.write(frame)
        truth = build_truth(family, scene, np.concatenate([chunk.visible for chunk in chunks]), 64)
        made[family] = Story(scene, truth, read_video(path))
    return made
