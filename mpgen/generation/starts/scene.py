"""`--scene`: the first frame and the caption of a scene of the built-in world."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mpgen.generation.pipeline import Job
from mpgen.generation.starts.base import Making, Start, check_picture, check_prompts, check_seconds, one_video
from mpgen.options import choose
from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings

SCENE_FRAMES = 61
ALIKE = ("bounce_objects", "hidden_seconds", "cue_seconds", "object_radius", "pace")  # as in the world of training


@dataclass(frozen=True)
class FromScene(Start):
    """To start from a scene of the built-in world, as large as the model's videos.

    Args:
        scene: a family of `mpgen.world.families`, such as occlude or bounce; --seed says which of its scenes.
        prompt: in place of the scene's own caption.
        prompts: texts that change on the way.
        end_image: the last frame; with --order f0.
        seconds: length of what is made.
    """

    takes_size: ClassVar[bool] = False

    scene: str
    prompt: str | None = None
    prompts: Path | None = None
    end_image: Path | None = None
    seconds: float = 5.0

    def __post_init__(self) -> None:
        choose(FAMILIES, self.scene, f"--scene {self.scene}")
        check_seconds(self.seconds)

    def needs_backward(self) -> Iterator[str]:
        yield from ["--end_image"] if self.end_image else []

    def check_files(self) -> None:
        check_picture(self.end_image, "--end_image")
        check_prompts(self.prompts, self.prompt or "")  # or the scene's own caption

    def jobs(self, making: Making) -> list[Job]:
        size = making.model.height_px
        seen = making.model.card.get("world", {})
        alike = {key: tuple(seen[key]) if isinstance(seen[key], list) else seen[key] for key in ALIKE if key in seen}
        settings = WorldSettings(size_px=size, fps=round(making.model.fps), **alike)
        scene = sample_scene(settings, self.scene, SCENE_FRAMES, (making.seed, 2))
        text = self.prompt or scene.caption
        start = render_scene(scene, size)[0]
        return one_video(making, start, None, text, self.prompts, self.end_image, self.seconds)
