"""What a section is to draw while training: the next section, or an earlier one from the long-term memory alone.

A target is chosen in the config like a forcing. The paper trains on the next section only; rehearsal is our addition.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpgen.backbones.base import Context
from mpgen.errors import UserError
from mpgen.past import Past
from mpgen.schedule import Stage
from mpgen.sections import Layout
from mpgen.tensors import Latents
from mpgen.training.noise import KeyedNoise


@dataclass(frozen=True)
class TrueSections:
    """A video's sections as the data has them.

    Args:
        latents: the latent frames after the start image, a whole number of sections.
        layout: in which order the sections are made.
    """

    latents: Latents
    layout: Layout

    def cut(self, sections: range) -> Float[Tensor, "b c cut h w"]:
        """The latent frames of neighbouring sections, by their numbers in the order they are made."""
        first, end = self.layout.bounds(sections[0])[0], self.layout.bounds(sections[-1])[1]
        return self.latents[:, :, first - 1 : end - 1]


@dataclass(frozen=True)
class Drawn:
    """What the network is to draw.

    Args:
        clean: the latents.
        from_memory: the videos that draw an earlier section, without being shown the history.
        kept: latent frames of the history that they are still shown, the oldest.
    """

    clean: Latents
    from_memory: Bool[Tensor, " b"]
    kept: int = 0

    def context(self, past: Past, num_sections: int) -> Context:
        """What the network is shown while it draws."""
        return past.from_memory_alone(self.from_memory, self.kept).pack(num_sections)


class Target(ABC):
    """Chooses what a stage of training draws."""

    needs_memory: ClassVar[bool] = False
    """Whether, without a long-term memory, the next section is drawn instead."""

    @abstractmethod
    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        """What to draw in this stage.

        Args:
            true: the data.
            stage: which sections come next.
            uids: the videos' names.
            noise: this step's random numbers.
        """


@dataclass(frozen=True)
class NextSection(Target):
    """The sections that come next, as the paper does."""

    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        following = true.cut(stage.sections)
        return Drawn(following, torch.zeros(len(following), dtype=torch.bool, device=following.device))


@dataclass(frozen=True)
class Rehearsal(Target):
    """Now and then an earlier section instead, drawn from the start image and the long-term memory alone.

    Only the memory knows what such a section looked like, which teaches it to keep all that was seen and the backbone
    to read it. Where several sections are noisy side by side, or none has gone before, the next ones are drawn.

    Args:
        share: how often, in [0, 1].
    """

    needs_memory = True

    share: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"model.target share {self.share}: wanted a number in [0, 1]")

    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        drawn = NextSection().choose(true, stage, uids, noise)
        if not self.share or not stage.number or len(stage.sections) > 1:
            return drawn
        again = (noise.uniform(uids, stage.number, "rehearsal") < self.share).to(drawn.clean.device)
        return self._again(true, drawn, again, noise.uniform(uids, stage.number, "earlier"), range(stage.number), 0)

    def _again(
        self, true: TrueSections, drawn: Drawn, again: Tensor, where: Tensor, earlier: range, kept: int
    ) -> Drawn:
        """For the videos of `again` one of the `earlier` sections, at `where` in [0, 1) of them."""
        chosen = [earlier[j] for j in (where * len(earlier)).long().tolist()]
        cuts = [true.cut(range(j, j + 1))[i : i + 1] for i, j in enumerate(chosen)]
        return Drawn(torch.where(again[:, None, None, None, None], torch.cat(cuts), drawn.clean), again, kept)


@dataclass(frozen=True)
class FarRehearsal(Rehearsal):
    """Rehearsal for a FramePack without a memory: an earlier section, drawn from what is far back in the history.

    The control of equal tokens: what a longer history learns from the same question (our choice).

    Args:
        share: how often, in [0, 1].
        near: latent frames, the latest of the history, that are then not shown.
    """

    needs_memory = False

    near: int = 7

    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        drawn, layout = NextSection().choose(true, stage, uids, noise), true.layout
        far = range(
            max(0, stage.number - layout.history // layout.section), stage.number - -(-self.near // layout.section)
        )
        if not self.share or not far or len(stage.sections) > 1:
            return drawn
        again = (noise.uniform(uids, stage.number, "rehearsal") < self.share).to(drawn.clean.device)
        where = noise.uniform(uids, stage.number, "earlier")
        return self._again(true, drawn, again, where, far, layout.history - self.near)
