"""The same scene with another hidden object, or without it: what a model expects, asked without a sample.

A model that is given true frames until the section in which a hidden object is seen again holds something possible
there. Each other identity that the object could have is a scene of its own; the one whose picture is nearest to what
the model expects is the model's answer. It depends neither on when the object is seen nor on how well it is drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mpgen.world.scenes import PALETTE, SHAPES, Scene, Track
from mpgen.world.truth import HiddenSpan, Truth
from mpgen.world.truth_files import load_truth
from mpgen.world.videos import scene_of, world_videos
from mpgen.world.writer import load_settings

FAMILIES = ("occlude", "curtain", "panback")
SHOWN = 0.25  # of the object on average over the section, or there is too little to expect

Identity = tuple[str, str]  # colour and shape


@dataclass(frozen=True)
class Question:
    """A held-out video in which something hidden is seen again.

    Args:
        name: of the video.
        scene: its story.
        span: while the object is hidden; of several objects the last to be seen again, for what opens a curtain is
            then known.
        section: number of the section in which it is seen again.
        size_px: height and width of the world's pictures.
    """

    name: str
    scene: Scene
    span: HiddenSpan
    section: int
    size_px: int

    @property
    def identity(self) -> Identity:
        """The true answer."""
        track = self.scene.tracks[self.span.object_id]
        return track.colour, track.shape

    @property
    def hidden_seconds(self) -> float:
        return (self.span.first_seen - self.span.first_hidden) / self.scene.fps

    def identities(self) -> list[Identity]:
        """What the object could be: every shape in every colour that no other object has."""
        others = {track.colour for track in self._others()}
        return [(colour, shape) for colour in PALETTE if colour not in others for shape in SHAPES]

    def without(self) -> Scene:
        """The scene without the object."""
        return replace(self.scene, tracks=tuple(self._others()))

    def with_identity(self, identity: Identity) -> Scene:
        """The scene with another object in its stead, behind all others."""
        colour, shape = identity
        track = replace(self.scene.tracks[self.span.object_id], colour=colour, shape=shape)
        return replace(self.scene, tracks=(*self._others(), track))

    def _others(self) -> list[Track]:
        return [track for index, track in enumerate(self.scene.tracks) if index != self.span.object_id]


def questions(world: Path, section_frames: int) -> Iterator[Question]:
    """The held-out videos in which something is seen again early enough in a section to be expected.

    Args:
        world: the folder that `mpgen world` made.
        section_frames: pixel frames of a section; the first frame is given.

    Raises:
        UserError: it is no finished world.
    """
    settings = load_settings(world)
    for video in world_videos(settings):
        if video.split != "val" or video.family not in FAMILIES:
            continue
        truth = load_truth(world / "truth" / f"{video.name}.json")
        if (question := find_question(video.name, scene_of(settings, video), truth, section_frames)) is not None:
            yield question


def find_question(name: str, scene: Scene, truth: Truth, section_frames: int) -> Question | None:
    """The question that a video asks; None if nothing is seen again early enough in a section to be expected."""
    span = _last_return(truth)
    if span is None:
        return None
    section = (span.first_seen - 1) // section_frames
    shown = truth.objects[span.object_id].visible[1 + section * section_frames : 1 + (section + 1) * section_frames]
    if len(shown) < section_frames or shown.mean() < SHOWN:
        return None
    return Question(name, scene, span, section, truth.size_px)


def _last_return(truth: Truth) -> HiddenSpan | None:
    """The first span of each object; of these the one that ends last."""
    firsts = {span.object_id: span for span in reversed(truth.hidden_spans)}.values()
    return max(firsts, key=lambda span: span.first_seen, default=None)
