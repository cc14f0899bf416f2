"""Controls that any claim about memory needs: psi made of something else than what the video has shown.

A network that recalls *through psi* must fall to chance with the psi of another video, and lose what came after the
first window where psi is frozen there; that the order of the windows matters, and that psi does, are questions of the
same kind. A control takes the place of psi in a past (`Past.controlled`), so nothing else knows of it.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from mpgen.conditioning import Conditioning
from mpgen.errors import UserError
from mpgen.memory.base import Psi, Remembered
from mpgen.options import choose
from mpgen.tensors import Latents, MaskedTokens, Still

OWN = "own"  # no control: psi of the video's own windows
OTHER_VIDEO = "other_video"
Choice = Callable[[Sequence[Latents]], Sequence[Latents]]


@dataclass(frozen=True)
class OtherVideo:
    """A video that another one is given the psi of.

    Args:
        conditioning: its text and image features.
        start: its start image's latents.
        sections: what is remembered of it, as far as the other one is long.
    """

    conditioning: Conditioning
    start: Still
    sections: tuple[Latents, ...]

    def to(self, dtype: torch.dtype) -> "OtherVideo":
        sections = tuple(section.to(dtype) for section in self.sections)
        return OtherVideo(self.conditioning.to(dtype=dtype), self.start.to(dtype), sections)


@dataclass(frozen=True)
class Replayed(Remembered):
    """psi made of a choice of the windows so far, anew whenever it is read; so all of them are kept.

    Args:
        begun: psi when only the start image is known.
        choose: which windows, in which order, of all so far.
        sections: all so far.
    """

    begun: Psi
    choose: Choice
    sections: tuple[Latents, ...] = ()

    def after(self, section: Latents) -> "Replayed":
        return replace(self, sections=(*self.sections, section.detach()))

    def tokens(self) -> MaskedTokens:
        psi = self.begun
        for section in self.choose(self.sections):
            psi = psi.after(section)
        return psi.tokens()

    def anew(self, conditioning: Conditioning | None = None, start: Still | None = None) -> "Replayed":
        return replace(self, begun=self.begun.anew(conditioning, start), sections=())


@dataclass(frozen=True)
class OfAnother(Replayed):
    """psi of another video, whatever this one begins from."""

    def anew(self, conditioning: Conditioning | None = None, start: Still | None = None) -> "OfAnother":
        return replace(self, sections=())


def _of_another(psi: Psi, other: OtherVideo | None) -> Remembered:
    if other is None:
        raise UserError(f"memory control {OTHER_VIDEO}: wanted another video")
    begun = Psi.begin(psi.memory, other.conditioning, other.start, psi.keep)
    return OfAnother(begun, lambda own: other.sections[: len(own)])


def _shuffled(sections: Sequence[Latents]) -> Sequence[Latents]:
    return random.Random(0).sample(sections, len(sections))


CONTROLS: Mapping[str, Callable[[Psi, OtherVideo | None], Remembered | None]] = MappingProxyType(
    {
        OTHER_VIDEO: _of_another,
        "frozen": lambda psi, other: Replayed(psi, lambda own: own[:1]),
        "shuffled": lambda psi, other: Replayed(psi, _shuffled),
        "removed": lambda psi, other: None,
    }
)
"""other_video: psi of another video, of as many windows. frozen: psi after the first window. shuffled: of all windows
so far, in random order. removed: no psi, so the context is FramePack's alone."""


def controlled(psi: Remembered | None, control: str, other: OtherVideo | None) -> Remembered | None:
    """What stands for psi under a control of `CONTROLS`.

    Args:
        psi: when only the start image is known.
        control: its name.
        other: for `other_video`.

    Raises:
        UserError: there is no psi, no such control, or it wants another video.
    """
    make = choose(CONTROLS, control, f"memory control {control}")
    if not isinstance(psi, Psi):
        raise UserError(f"memory control {control}: wanted a model with a long-term memory")
    return make(psi, other)
