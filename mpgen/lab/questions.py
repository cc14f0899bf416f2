"""What every row is asked: what comes back, by where, after how long, and among how many objects.

A question is a held-out video that is given in true frames until the section in which a hidden object is seen again.
One forward at sigma 1 gives the mean of what a model holds possible there; the rendering with another colour or shape
that this mean is nearest to is its answer. That needs no sampling and does not depend on how well anything is drawn.
Questions are encoded once and kept in a file, for all rows to be asked the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mpgen.atomic import replacing
from mpgen.encoders.base import Encoders, VideoAutoencoder
from mpgen.world.counterfactuals import Identity, Question, find_question
from mpgen.world.families import sample_scene
from mpgen.world.render import render_chunks, render_scene
from mpgen.world.scenes import Scene
from mpgen.world.settings import WorldSettings
from mpgen.world.truth import build_truth

SEED = 20_261_201  # of the held-out world: nothing was ever chosen by it, and it is used for the tables only
MOST = 4000  # scenes that are looked at for one kind


@dataclass(frozen=True)
class Kind:
    """A kind of question.

    Args:
        family: of the world's stories.
        hidden_seconds: shortest and longest time out of sight.
        seconds: length of the story.
        number: how many are asked.
        settings: what else differs in the world.
    """

    family: str
    hidden_seconds: tuple[float, float]
    seconds: float
    number: int
    settings: Mapping[str, object] = field(default_factory=dict)


# FramePack's window and the section that is being made are 3.3 s, so all of these are beyond its sight; the longest
# history of any row reaches 24 s.
KINDS: MappingProxyType[str, Kind] = MappingProxyType(
    {
        "same place": Kind("curtain", (3.4, 7.0), 20.0, 48, {"bounce_objects": (1, 4)}),
        "same place, long": Kind("curtain", (15.0, 60.0), 80.0, 32, {"bounce_objects": (1, 3)}),
        "from behind a wall": Kind("occlude", (3.4, 7.0), 30.0, 24, {"cue_seconds": 1.5}),
        "after a pan": Kind("panback", (1.0, 4.0), 30.0, 24),
    }
)


@dataclass(frozen=True)
class Asked:
    """A question, encoded.

    Args:
        kind: of `KINDS`.
        name: of the video.
        hidden_seconds: how long the object was out of sight.
        objects: how many the video has.
        caption: the prompt.
        image: the start image in [-1, 1].
        start: its latents.
        sections: the true latents until the one in which it is seen again.
        blind: how many of them at the end show nothing of it.
        identities: what the object could be.
        truth: which of them it is.
        candidates: the section's latents with each of them, less those without the object.
        empty: the section's latents without the object.
    """

    kind: str
    name: str
    hidden_seconds: float
    objects: int
    caption: str
    image: Float[Tensor, "1 3 h w"]
    start: Float[Tensor, "1 c 1 y x"]
    sections: tuple[Float[Tensor, "1 c t y x"], ...]
    blind: int
    identities: tuple[Identity, ...]
    truth: int
    candidates: Float[Tensor, "k values"]
    empty: Float[Tensor, " values"]


def ask(
    encoders: Encoders,
    settings: WorldSettings,
    section_latents: int,
    kinds: Mapping[str, Kind] = KINDS,
    most: int | None = None,
) -> list[Asked]:
    """All questions of these kinds.

    Args:
        encoders: those of the rows.
        settings: of the world that they were trained on; the held-out seed takes its seed's place.
        section_latents: latent frames of a section.
        kinds: by name.
        most: of each kind, if fewer are wanted.
    """
    found = []
    for name, kind in kinds.items():
        number = kind.number if most is None else min(most, kind.number)
        asked = islice(_questions(name, kind, settings, section_latents * encoders.vae.temporal_stride), number)
        found += [_encode(name, question, encoders.vae, section_latents) for question in asked]
    return found


def _questions(name: str, kind: Kind, settings: WorldSettings, section: int) -> Iterator[Question]:
    settings = replace(settings, seed=SEED, open_share=0.0, hidden_seconds=kind.hidden_seconds, **kind.settings)
    shortest, longest = kind.hidden_seconds
    frames = 1 + round(kind.seconds * settings.fps / section) * section
    for index in islice(count(), MOST):
        scene = sample_scene(settings, kind.family, frames, (4, index))
        visible = np.concatenate([chunk.visible for chunk in render_chunks(scene, settings.size_px)])
        title = f"{index:03d}_{name.replace(' ', '_').replace(',', '')}"
        question = find_question(title, scene, build_truth(title, scene, visible, settings.size_px), section)
        if question is not None and (kind.family == "panback" or shortest <= question.hidden_seconds <= longest):
            yield question


def _encode(kind: str, question: Question, vae: VideoAutoencoder, section_latents: int) -> Asked:
    frames, number = section_latents * vae.temporal_stride, question.section
    first = render_scene(question.scene.between(0, 1 + number * frames), question.size_px)
    latents = vae.encode(_clip(first))

    def section(scene: Scene) -> Float[Tensor, " values"]:
        # The frame before it stands for all that is before: the tiny autoencoder looks no further.
        clip = render_scene(scene.between(number * frames, 1 + (number + 1) * frames), question.size_px)
        return vae.encode(_clip(clip))[:, :, 1:].flatten()

    empty = section(question.without())
    identities = tuple(question.identities())
    candidates = torch.stack([section(question.with_identity(identity)) - empty for identity in identities])
    return Asked(
        kind=kind,
        name=question.name,
        hidden_seconds=question.hidden_seconds,
        objects=len(question.scene.tracks),
        caption=question.scene.caption,
        image=_clip(first[:1])[:, :, 0],
        start=latents[:, :, :1],
        sections=tuple(latents[:, :, 1:].split(section_latents, 2)) if number else (),
        blind=number - min(number, -(-(question.span.first_hidden - 1) // frames)),
        identities=identities,
        truth=identities.index(question.identity),
        candidates=candidates,
        empty=empty,
    )


def _clip(frames: np.ndarray) -> Float[Tensor, "1 3 t h w"]:
    return rearrange(torch.from_numpy(frames), "t h w c -> 1 c t h w").float() / 127.5 - 1


def chance(asked: Asked) -> float:
    """What guessing gets."""
    return 1 / len(asked.identities)


def keep(asked: list[Asked], path: Path) -> None:
    """Writes questions to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        torch.save([vars(question) for question in asked], unfinished)


def kept(path: Path) -> list[Asked]:
    """Reads them again."""
    return [Asked(**question) for question in torch.load(path, weights_only=True)]
