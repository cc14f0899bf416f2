"""What a long-term memory is: psi, a set of tokens that is updated once a section (paper §4.1.2).

A memory is two small classes in one file: a config (`MemoryConfig`, what YAML names) and the layers (`LongTermMemory`).
psi itself is a value that the caller carries from section to section, see `Psi`.
"""

from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from mpgen.backbones.base import Backbone, BackboneConfig
from mpgen.conditioning import Conditioning
from mpgen.errors import UserError
from mpgen.tensors import Latents, MaskedTokens, Still


class LongTermMemory(nn.Module, ABC):
    """The layers of a memory. psi may have any width and number of tokens; `tokens` brings it to the backbone's."""

    def conditioned(self, conditioning: Conditioning, start: Still) -> Conditioning:
        """What `seed` and `update` are given for a video: its conditioning, and what the memory reads of its start."""
        return conditioning

    @abstractmethod
    def seed(self, conditioning: Conditioning, start: Still) -> MaskedTokens:
        """psi when only the start image is known."""

    @abstractmethod
    def update(self, psi: MaskedTokens, section: Latents, conditioning: Conditioning) -> MaskedTokens:
        """psi after `section`."""

    def updates(
        self, psi: MaskedTokens, sections: Sequence[Latents], conditioning: Conditioning
    ) -> Iterable[MaskedTokens]:
        """psi after each of several sections in a row: one `update` after another, unless it is faster together."""
        for section in sections:
            psi = self.update(psi, section, conditioning)
            yield psi

    @abstractmethod
    def tokens(self, psi: MaskedTokens, start: Still) -> MaskedTokens:
        """What the backbone attends to: tokens of its width with rotary positions, and which of them are there.

        Args:
            psi: the memory.
            start: the start image's latents, whose size is the picture's.
        """

    def initialise_from(self, backbone: Backbone) -> None:
        """Initial values that depend on the backbone's, once these are there."""


class MemoryConfig(metaclass=ABCMeta):
    """Sizes and wiring of a memory as a value: what a config names, and what builds the layers."""

    @abstractmethod
    def build(self, backbone: BackboneConfig) -> LongTermMemory:
        """The layers, for a backbone of these sizes."""


class Remembered(ABC):
    """What a video's past carries of its long-term memory: `Psi`, or a control in its place (`memory.controls`)."""

    @abstractmethod
    def after(self, section: Latents) -> "Remembered":
        """The same after `section`, which is detached."""

    @abstractmethod
    def tokens(self) -> MaskedTokens:
        """psi now, as the backbone attends to it."""

    @abstractmethod
    def anew(self, conditioning: Conditioning | None = None, start: Still | None = None) -> "Remembered":
        """The same before any section, under another conditioning or from another start image."""


@dataclass(frozen=True)
class Psi(Remembered):
    """psi as a value, with the latest sections kept apart so that gradients can flow through them.

    `base` has no gradient. Reading replays `sections` on it, so a section's loss reaches the memory's layers through
    the last `keep` sections and no further; the cost stays linear and every section's graph can be freed. With
    `keep` = 0 (generation) reading replays nothing.

    Args:
        memory: the layers.
        conditioning: text and image features.
        start: the start image's latents.
        base: psi before `sections`; None while the start image is still to be replayed.
        sections: the latest ones.
        keep: how many to replay; the start image counts as one.
    """

    memory: LongTermMemory
    conditioning: Conditioning
    start: Still
    base: MaskedTokens | None
    sections: tuple[Latents, ...]
    keep: int

    @classmethod
    def begin(cls, memory: LongTermMemory, conditioning: Conditioning, start: Still, keep: int) -> "Psi":
        """psi when only the start image is known."""
        psi = cls(memory, memory.conditioned(conditioning, start), start, None, (), keep)
        return psi if keep else psi._folded()

    def read(self) -> MaskedTokens:
        """psi now, as the memory keeps it."""
        psi = self.memory.seed(self.conditioning, self.start) if self.base is None else self.base
        return self._updated(psi, self.sections)

    def tokens(self) -> MaskedTokens:
        return self.memory.tokens(self.read(), self.start)

    def anew(self, conditioning: Conditioning | None = None, start: Still | None = None) -> "Psi":
        conditioning = self.conditioning if conditioning is None else conditioning
        return Psi.begin(self.memory, conditioning, self.start if start is None else start, self.keep)

    def after(self, section: Latents) -> "Psi":
        longer = replace(self, sections=(*self.sections, section.detach()))
        return longer if longer._num_replayed <= self.keep else longer._folded()

    @property
    def _num_replayed(self) -> int:
        return len(self.sections) + (self.base is None)

    def _updated(self, psi: MaskedTokens, sections: Sequence[Latents]) -> MaskedTokens:
        """psi after `sections`, as the memory makes it.

        Raises:
            UserError: it makes something else than psi, or numbers that are not finite of finite ones.
        """
        name = f"{type(self.memory).__name__}.update"
        for section, after in zip(sections, self.memory.updates(psi, sections, self.conditioning), strict=True):
            if not isinstance(after, MaskedTokens) or after.tokens.shape[::2] != psi.tokens.shape[::2]:
                given = list(after.tokens.shape) if isinstance(after, MaskedTokens) else type(after).__name__
                raise UserError(f"{name} gave {given}: wanted MaskedTokens like psi's, {list(psi.tokens.shape)}")
            if not after.tokens.isfinite().all() and psi.tokens.isfinite().all() and section.isfinite().all():
                raise UserError(f"{name} gave numbers that are not finite, of a psi and a section that are")
            psi = after
        return psi

    @torch.no_grad()
    def _folded(self) -> "Psi":
        """The oldest section moved into `base`."""
        if self.base is None:
            base, sections = self.memory.seed(self.conditioning, self.start), self.sections
        else:
            base = self._updated(self.base, self.sections[:1])
            sections = self.sections[1:]
        return replace(self, base=base.detach(), sections=sections)
