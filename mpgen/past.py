"""What is known of a video so far: short-term history and long-term memory, as one value.

Training and generation go through it alike: `pack` gives the context of the next sections, `after` the past once one
of them is clean.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from mpgen.backbones.base import Backbone, Context
from mpgen.conditioning import Conditioning
from mpgen.memory.base import Remembered
from mpgen.memory.controls import OWN, OtherVideo, controlled
from mpgen.memory.framepack import History, pack_history
from mpgen.schedule import Schedule
from mpgen.sections import FrameIndex
from mpgen.tensors import Latents, Sigma, Still


@dataclass(frozen=True)
class Past:
    """History, memory, and the networks that embed them.

    Args:
        backbone: embeds the history.
        frame_index: which indices in time the context carries.
        schedule: whether sections side by side are causal.
        history: the latest sections.
        psi: the long-term memory; None without one.
    """

    backbone: Backbone
    frame_index: FrameIndex
    schedule: Schedule
    history: History
    psi: Remembered | None

    def after(self, section: Latents) -> "Past":
        """The past once `section` is part of it; no gradient flows into the section."""
        section = section.detach()
        history, psi = self.history.append(section), self.psi
        if psi is not None and self.history.blank:
            psi = psi.anew(start=history.start)
        return replace(self, history=history, psi=None if psi is None else psi.after(section))

    def pack(self, num_sections: int = 1) -> Context:
        """All that the next sections see of the sections before them: `[memory | 4x | 2x | start, 1x]`.

        Args:
            num_sections: sections that are denoised side by side.
        """
        context = pack_history(self.backbone, self.history, self.frame_index, num_sections)
        if self.psi is not None:
            context = context.preceded_by(self.psi.tokens())
        if not self.schedule.is_causal:
            return context
        _, rows, columns = self.backbone.grid(self.history.start)
        sections = torch.arange(1, 1 + num_sections).repeat_interleave(self.history.layout.section * rows * columns)
        blocks = torch.cat([torch.zeros(context.tokens.shape[1], dtype=torch.long), sections])
        return replace(context, sigma=self.schedule.context_sigma, blocks=blocks.to(context.tokens.device))

    def at(self, sigma: Sigma, noise: Callable[[], Latents]) -> "Past":
        """What of it a section at this noise level is shown; the same but for schedules that noise the history.

        Args:
            sigma: noise level of each video's section.
            noise: makes standard normal noise of the history's shape.
        """
        return replace(
            self, history=replace(self.history, recent=self.schedule.shown(self.history.recent, sigma, noise))
        )

    def from_memory_alone(self, videos: Bool[Tensor, " b"], kept: int = 0) -> "Past":
        """The same with an empty history for some videos but for its `kept` oldest frames; their start image stays."""
        return replace(self, history=self.history.without(videos, kept))

    def reconditioned(self, conditioning: Conditioning, sections: Iterable[Latents]) -> "Past":
        """The same with the memory made anew from all `sections` so far, under another conditioning."""
        if self.psi is None:
            return self
        return replace(self, psi=_made_of(self.psi.anew(conditioning), sections, self.history.start))

    def remembering(self, sections: Iterable[Latents]) -> "Past":
        """The same with the memory made anew from `sections` in place of those so far; the short-term history stays."""
        if self.psi is None:
            return self
        return replace(self, psi=_made_of(self.psi.anew(), sections, self.history.start))

    def controlled(self, control: str, other: OtherVideo | None = None) -> "Past":
        """The same, before any section, with psi made as a control of `mpgen.memory.controls` has it.

        Raises:
            UserError: there is no psi, no such control, or it wants another video.
        """
        return self if control == OWN else replace(self, psi=controlled(self.psi, control, other))


def _made_of(psi: Remembered, sections: Iterable[Latents], like: Still) -> Remembered:
    for section in sections:
        psi = psi.after(section.to(like))
    return psi
