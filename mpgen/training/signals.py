"""Other training signals for a memory: what others ask of the far past, in place of rehearsal, and mixtures.

A memory learns only if training asks for what is far back (configs/ablation). Each signal has a form for a long-term
memory and one for a FramePack with a longer history and none (`Far...`), as rehearsal has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mpgen.backbones.base import Context
from mpgen.errors import UserError
from mpgen.past import Past
from mpgen.schedule import Stage
from mpgen.tensors import FrameIndices, Latents
from mpgen.training.noise import KeyedNoise
from mpgen.training.targets import Drawn, NextSection, Target, TrueSections


def _check(target: Target, **shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UserError(f"model.target {type(target).__name__} {name} {share}: wanted a number in [0, 1]")


def _forward_only(target: Target, true: TrueSections) -> None:
    if true.layout.direction < 0:
        raise UserError(f"model.target {type(target).__name__}: wanted model.denoiser.order f1, the order of time")


def _of_all(noise: KeyedNoise, stage: Stage, purpose: str) -> float:
    """One number in [0, 1) for all videos of a step, on every rank."""
    return float(noise.uniform((purpose,), stage.number, purpose))


def _of_each(noise: KeyedNoise, uids: Sequence[str], stage: Stage, purpose: str, share: float) -> Bool[Tensor, " b"]:
    return noise.uniform(uids, stage.number, purpose) < share


@dataclass(frozen=True)
class InRing(Drawn):
    """The next section, of which the distant past already tells.

    Args:
        windows: what the memory is made of in place of the past.
        far: latent frames in place of the oldest of the history.
    """

    windows: tuple[Latents, ...] = ()
    far: Float[Tensor, "b c far h w"] | None = None

    def context(self, past: Past, num_sections: int) -> Context:
        if self.windows:
            past = past.remembering(self.windows)
        if self.far is not None:
            recent = torch.cat([self.far, past.history.recent[:, :, self.far.shape[2] :]], 2)
            past = replace(past, history=replace(past.history, recent=recent))
        return super().context(past, num_sections)


@dataclass(frozen=True)
class RingForcing(Target):
    """The reversed video, target included, as the distant past of the next section (Ring Forcing, ringforcing.com).

    Going back along the ring to where the video turns and forward again, the memory has to carry the target past all
    that came after. The short-term context is dropped now and then, so that only the memory knows. The head, where the
    video turns, is cropped at random. Latents are reversed as they are, and all videos of a step turn or none (ours).

    Args:
        share: how often, in [0, 1].
        drop: in how many of these videos the short-term context is dropped, in [0, 1]; theirs is 0.4.
    """

    needs_memory = True

    share: float = 0.5
    drop: float = 0.4

    def __post_init__(self) -> None:
        _check(self, share=self.share, drop=self.drop)

    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        _forward_only(self, true)
        drawn = NextSection().choose(true, stage, uids, noise)
        if not stage.number or len(stage.sections) > 1 or _of_all(noise, stage, "ring") >= self.share:
            return drawn
        turn = int(_of_all(noise, stage, "turn") * stage.number)
        forward = [true.cut(range(number, number + 1)) for number in range(turn, stage.number)]
        windows = (drawn.clean.flip(2), *(section.flip(2) for section in reversed(forward)), *forward)
        dropped = _of_each(noise, uids, stage, "dropped", self.drop).to(drawn.clean.device)
        return InRing(drawn.clean, dropped, windows=windows)


@dataclass(frozen=True)
class FarRingForcing(RingForcing):
    """The same for a FramePack without a memory: the far part of its history holds the reversed video, target first.

    Args:
        share: how often, in [0, 1].
        drop: in how many of these videos the rest of the history is dropped, in [0, 1].
        near: latent frames, the latest of the history, that are true.
    """

    needs_memory = False

    near: int = 7

    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        _forward_only(self, true)
        drawn, far = NextSection().choose(true, stage, uids, noise), true.layout.history - self.near
        seen = (stage.number + 1) * true.layout.section
        if not 0 < far <= seen or len(stage.sections) > 1 or _of_all(noise, stage, "ring") >= self.share:
            return drawn
        dropped = _of_each(noise, uids, stage, "dropped", self.drop).to(drawn.clean.device)
        return InRing(drawn.clean, dropped, far, far=true.latents[:, :, seen - far : seen].flip(2))


@dataclass(frozen=True)
class Queried(Drawn):
    """Frames of the past, and where they are.

    Args:
        shift: how much earlier each latent frame stands than where the next section's would, in latent frames.
    """

    shift: Int[Tensor, "b t"] | None = None

    def context(self, past: Past, num_sections: int) -> Context:
        context = super().context(past, num_sections)
        earlier: FrameIndices = context.section_indices - self.shift.to(context.section_indices)
        return replace(context, section_indices=earlier)


@dataclass(frozen=True)
class FrameQueries(Target):
    """Latent frames of the past at random, asked for by their times (TinyHistory, arXiv 2512.23851).

    Where they stand is told by their rotary positions, counted back from the next section; rehearsal does not tell, and
    asks for a whole section. There it is the pretraining of a history encoder, here a share of every step (ours).

    Args:
        share: how often, in [0, 1].
    """

    needs_memory = True

    share: float = 0.5

    def __post_init__(self) -> None:
        _check(self, share=self.share)

    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        past = range(stage.number * true.layout.section)
        return self._of(true, stage, uids, noise, past, 0)

    def _of(
        self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise, asked: range, kept: int
    ) -> Drawn:
        """Some of the `asked` latent frames, counted from the first after the start image."""
        _forward_only(self, true)
        drawn, section = NextSection().choose(true, stage, uids, noise), true.layout.section
        if len(asked) < section or len(stage.sections) > 1:
            return drawn
        frames = torch.stack([noise.uniform(uids, stage.number, f"frame {number}") for number in range(section)], 1)
        frames = asked.start + (frames * len(asked)).long().sort(1).values
        again = _of_each(noise, uids, stage, "query", self.share)
        following = stage.number * section + torch.arange(section).expand_as(frames)
        frames = torch.where(again[:, None], frames, following).to(drawn.clean.device)
        clean = torch.stack([video[:, chosen] for video, chosen in zip(true.latents, frames, strict=True)])
        return Queried(clean, again.to(clean.device), kept, following.to(frames) - frames)


@dataclass(frozen=True)
class FarFrameQueries(FrameQueries):
    """The same for a FramePack without a memory: frames that only the far part of its history shows.

    Args:
        share: how often, in [0, 1].
        near: latent frames, the latest of the history, that are then not shown.
    """

    needs_memory = False

    near: int = 7

    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        end, history = stage.number * true.layout.section, true.layout.history
        asked = range(max(0, end - history), max(0, end - self.near))
        return self._of(true, stage, uids, noise, asked, history - self.near)


@dataclass(frozen=True)
class Mixture(Target):
    """One of several targets, each as often as the others, for all videos of a step.

    Args:
        parts: the targets.
    """

    parts: tuple[Target, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("model.target Mixture: wanted at least one target in parts")

    @property
    def needs_memory(self) -> bool:
        return any(part.needs_memory for part in self.parts)

    def choose(self, true: TrueSections, stage: Stage, uids: Sequence[str], noise: KeyedNoise) -> Drawn:
        part = self.parts[int(_of_all(noise, stage, "mixture") * len(self.parts))]
        return part.choose(true, stage, uids, noise)
