"""What all stories share: the interface, how motion is worded, times drawn at random, positions clear of each other."""

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float

from mpgen.world.scenes import Scene, Track
from mpgen.world.settings import WorldSettings


class Family(ABC):
    """A kind of story; it draws one from a generator."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene: ...


def moving(track: Track, direction: str, pace: str) -> str:
    return f"{article(track.colour)} {track.shape} moves {direction} {pace} and bounces off the edges."


def article(colour: str) -> str:
    return f"{'an' if colour == 'orange' else 'a'} {colour}"


def log_uniform_frames(rng: np.random.Generator, settings: WorldSettings, room: int) -> int:
    """A hidden time in frames, log-uniform between the bounds, the upper one cut to what the video has room for."""
    shortest, longest = (seconds * settings.fps for seconds in settings.hidden_seconds)
    longest = max(shortest, min(longest, room))
    return max(1, round(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))


def apart(rng: np.random.Generator, settings: WorldSettings, count: int) -> Float[np.ndarray, "count 2"]:
    """Positions inside the frame where all objects stand clear of each other."""
    while True:
        positions = rng.uniform(settings.margin, 1 - settings.margin, (count, 2))
        distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1) + np.eye(count)
        if distances.min() > settings.min_distance:
            return positions
