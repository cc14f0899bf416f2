"""Which videos a world has, and the story of each: both follow from its settings alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpgen.errors import UserError
from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.scenes import Scene
from mpgen.world.settings import WorldSettings


@dataclass(frozen=True)
class WorldVideo:
    """Which story one video of a world will tell."""

    split: str
    index: int
    family: str
    pixel_frames: int

    @property
    def name(self) -> str:
        return f"{self.split}_{self.index:05d}_{self.family}"


def world_videos(settings: WorldSettings) -> tuple[WorldVideo, ...]:
    """The videos of a world: families in turn by their weights, and each family's lengths in turn.

    Raises:
        UserError: a family does not exist.
    """
    unknown = set(settings.families) - set(FAMILIES)
    if unknown:
        raise UserError(f"world families {sorted(unknown)}: {', '.join(FAMILIES)} are wanted")
    videos = []
    for split, count in (("train", settings.train_videos), ("val", settings.val_videos)):
        shares = (
            settings.families if split == "train" else {name: float(w > 0) for name, w in settings.families.items()}
        )
        families = _in_turn(shares)
        lengths = settings.lengths(split)
        turns = {family: _in_turn(lengths) for family in settings.families}
        for index in range(count):
            family = next(families)
            videos.append(WorldVideo(split, index, family, next(turns[family])))
    return tuple(videos)


def scene_of(settings: WorldSettings, video: WorldVideo) -> Scene:
    """The story of one video, which follows from the world's seed, the video's split and its number."""
    return sample_scene(settings, video.family, video.pixel_frames, (("train", "val").index(video.split), video.index))


def _in_turn(weights: dict[Any, float]) -> Iterator[Any]:
    """Names in an order in which, at every point, each has come up in proportion to its weight."""
    total, taken = sum(weights.values()), dict.fromkeys(weights, 0)
    count = 0
    while True:
        count += 1
        name = max(weights, key=lambda name: weights[name] / total * count - taken[name])
        taken[name] += 1
        yield name
