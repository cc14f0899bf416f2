"""What a generator is asked about the world: held-out videos with their truth, of which only the beginning is given.

Nothing is read from disk, so a training run can ask at its end, whatever its videos on disk are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, cycle

import numpy as np
from jaxtyping import UInt8

from mpgen.world.families import sample_scene
from mpgen.world.render import render_chunks
from mpgen.world.scenes import Scene
from mpgen.world.scoring.video import VideoScores, score_video
from mpgen.world.settings import WorldSettings
from mpgen.world.truth import HiddenSpan, Truth, build_truth

STARTS, HIDING = ("steady", "bounce"), ("curtain", "occlude")
_MAX_SECONDS = 40  # of a story in which something hides
_MAX_SCENES = 10_000


@dataclass(frozen=True)
class Question:
    """A true video, of which so many frames are given.

    Args:
        truth: what is true in it.
        frames: all of it, to compare with.
        given: the start image and as many whole sections as are given.
        section_frames: frames of a section; the video is 1 + a whole number of sections long.
    """

    truth: Truth
    frames: UInt8[np.ndarray, "t h w 3"]
    given: int
    section_frames: int

    @property
    def num_asked(self) -> int:
        """Sections to be made."""
        return (len(self.frames) - self.given) // self.section_frames

    def score(self, made: UInt8[np.ndarray, "t h w 3"]) -> VideoScores:
        """An answer, the given frames first, against the truth."""
        return score_video(made, self.truth, self.frames, self.given, self.section_frames)


def from_the_start(settings: WorldSettings, number: int, section_frames: int, seconds: float) -> list[Question]:
    """Videos that go on from their start image: are the objects still there at the end, and the background?

    Args:
        settings: of the world; its seed says which videos.
        number: how many, of the families in `STARTS` in turn.
        section_frames: frames of a section.
        seconds: length of what is asked.
    """
    frames = 1 + section_frames * round(seconds * settings.fps / section_frames)
    families = [family for family in STARTS if settings.families.get(family)] or list(settings.families)
    named = [(index, families[index % len(families)]) for index in range(number)]
    return [
        _ask(sample_scene(settings, family, frames, (2, index)), settings, f"{index:02d}_{family}", 1, section_frames)
        for index, family in named
    ]


def after_hiding(
    settings: WorldSettings, number: int, section_frames: int, hidden_seconds: tuple[float, float]
) -> list[Question]:
    """All true frames until what was hidden comes back, and what comes back is asked: is it what it was?

    A curtain has begun to open in the last given frame, so that it is known when something comes and only what comes
    has to be remembered; of a wall, `cue_seconds` of the settings tells.

    Args:
        settings: of the world; its seed says which videos.
        number: how many, of the families in `HIDING` in turn.
        section_frames: frames of a section.
        hidden_seconds: shortest and longest time out of sight.
    """
    settings = replace(settings, hidden_seconds=hidden_seconds)
    families = cycle([family for family in HIDING if settings.families.get(family)] or HIDING)
    found: list[Question] = []
    for index in count():
        if len(found) == number or index == _MAX_SCENES:
            return found
        family = next(families)
        found += _returning(sample_scene(settings, family, _MAX_SECONDS * settings.fps, (3, index)), settings,
                            f"{index:02d}_{family}", section_frames)  # fmt: skip


def _returning(scene: Scene, settings: WorldSettings, name: str, section: int) -> Iterator[Question]:
    """The question at the first return that suits; none if there is none."""
    shortest, longest = settings.hidden_seconds
    truth = _truth(scene, settings, name)[0]
    for span in truth.hidden_spans:
        if shortest <= (span.first_seen - span.first_hidden) / settings.fps <= longest:
            given = 1 + (span.first_seen - 1) // section * section
            end = given + section * -(-(_whole_again(truth, span) + settings.fps - given) // section)
            if end <= scene.num_frames and _curtain_opens(scene, given):
                yield _ask(scene.between(0, end), settings, name, given, section)
                return


def _curtain_opens(scene: Scene, given: int) -> bool:
    return scene.curtain is None or bool(abs(scene.drawn[given - 1]) < 1)


def _whole_again(truth: Truth, span: HiddenSpan) -> int:
    """The first frame on which the object can be seen whole again."""
    shown = truth.objects[span.object_id].visible[span.first_seen :]
    return span.first_seen + int(np.argmax(shown > 0.95))


def _ask(scene: Scene, settings: WorldSettings, name: str, given: int, section: int) -> Question:
    truth, frames = _truth(scene, settings, name)
    return Question(truth, frames, given, section)


def _truth(scene: Scene, settings: WorldSettings, name: str) -> tuple[Truth, UInt8[np.ndarray, "t h w 3"]]:
    chunks = list(render_chunks(scene, settings.size_px))
    visible = np.concatenate([chunk.visible for chunk in chunks])
    return build_truth(name, scene, visible, settings.size_px), np.concatenate([chunk.frames for chunk in chunks])
