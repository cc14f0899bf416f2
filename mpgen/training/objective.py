"""The training objective, stage by stage (paper §4.2): the loop of generation, with one forward for a whole sampler.

A generator, so that the caller can run the backward pass of a section before the next one begins, and only one
section's graph is alive. Plain PyTorch; Lightning only drives it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.backbones.base import Context
from mpgen.conditioning import Conditioning
from mpgen.data.dataset import VideoBatch
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError
from mpgen.flow import SigmaDraw, add_noise, velocity_target
from mpgen.generation.guidance import guided_velocity
from mpgen.sampling import Level
from mpgen.tensors import Latents
from mpgen.training.forcing import Forcing, SectionPass
from mpgen.training.noise import KeyedNoise
from mpgen.training.targets import NextSection, Target, TrueSections


@dataclass(frozen=True)
class SectionLoss:
    """The loss of one stage, and what is worth logging of it.

    Args:
        number: of the stage; which section, where one is noisy at a time.
        loss: mean squared error of the velocity, with its graph.
        per_video: the same for each video, without.
        sigma: each video's noise level, the mean of several sections'.
        carried_error: root mean square of carried minus true latents of each video; None where nothing is carried, as
            after the last section.
    """

    number: int
    loss: Float[Tensor, ""]
    per_video: Float[Tensor, " b"]
    sigma: Float[Tensor, " b"]
    carried_error: Float[Tensor, " b"] | None


def joined(found: Sequence[SectionLoss]) -> list[SectionLoss]:
    """The losses of several batches of equal size as those of one of all their videos."""
    by_number: dict[int, list[SectionLoss]] = {}
    for section in found:
        by_number.setdefault(section.number, []).append(section)
    return [parts[0] if len(parts) == 1 else _of_all_videos(parts) for parts in by_number.values()]


def _of_all_videos(parts: Sequence[SectionLoss]) -> SectionLoss:
    carried = [part.carried_error for part in parts if part.carried_error is not None]
    return SectionLoss(
        parts[0].number,
        torch.stack([part.loss.detach() for part in parts]).mean(),
        torch.cat([part.per_video for part in parts]),
        torch.cat([part.sigma for part in parts]),
        torch.cat(carried) if carried else None,
    )


@dataclass(frozen=True)
class Objective:
    """What is learned, and from which past.

    Args:
        forcing: what is carried from section to section.
        sigma: how noise levels are drawn.
        target: what a section draws; the next section if there is no memory to draw another one from.
        memory_sections: past sections through which the memory gets gradients.
        negative_memory: whether the branch that guidance leads away from, where a forcing samples, reads the memory.
    """

    forcing: Forcing
    sigma: SigmaDraw
    target: Target
    memory_sections: int = 2
    negative_memory: bool = True

    def losses(self, denoiser: Denoiser, batch: VideoBatch, noise: KeyedNoise) -> Iterator[SectionLoss]:
        """One loss a stage; run its backward pass before asking for the next."""
        frames, conditioning = denoiser.layout.section, batch.conditioning
        layout = denoiser.layout.for_video(batch.num_sections)
        true = TrueSections(batch.latents, layout)
        past = denoiser.begin(batch.start, conditioning, self._keep(denoiser), layout)
        target = NextSection() if past.psi is None and self.target.needs_memory else self.target
        for number in range(batch.num_given):
            past = past.after(true.cut(range(number, number + 1)))
        for stage in denoiser.schedule.stages(batch.num_sections, batch.num_given):
            drawn = target.choose(true, stage, batch.uids, noise)
            draw = noise.draw(batch.uids, stage.number, drawn.clean)
            sigma = denoiser.schedule.draw(draw.uniform, stage.ages, frames, self.sigma)
            noisy = add_noise(drawn.clean, draw.noise, sigma)
            of_history = partial(noise.of_history, batch.uids, stage.number, past.history.recent)
            context = drawn.context(past.at(sigma, of_history), len(stage.sections))
            velocity = denoiser(noisy, sigma, context, conditioning).float()
            per_video = (velocity - velocity_target(drawn.clean, draw.noise)).square().mean((1, 2, 3, 4))

            carried_error = None
            if stage.finished is not None and stage.finished + 1 < batch.num_sections:
                velocity_fn = _Sampled(denoiser, context, conditioning, self.negative_memory)
                generators = partial(noise.generators, batch.uids, stage.number)
                seen = SectionPass(drawn.clean, draw.noise, noisy, sigma, velocity.detach(), velocity_fn, generators)
                following = true.cut(stage.sections)
                carried = torch.where(
                    drawn.from_memory[:, None, None, None, None], following, _carry(self.forcing, seen)
                )
                carried_error = (carried - following)[:, :, :frames].square().mean((1, 2, 3, 4)).sqrt()
                past = past.after(carried[:, :, :frames])
            level = sigma.reshape(len(sigma), -1).mean(1)
            yield SectionLoss(stage.number, per_video.mean(), per_video.detach(), level, carried_error)

    def _keep(self, denoiser: Denoiser) -> int:
        """Sections to replay: none where the memory does not train."""
        learns = denoiser.memory is not None and any(p.requires_grad for p in denoiser.memory.parameters())
        return self.memory_sections if learns else 0


@torch.no_grad()
def _carry(forcing: Forcing, seen: SectionPass) -> Latents:
    """What the forcing gives, which must be finite latents like the data's.

    Raises:
        UserError: it is something else.
    """
    carried = forcing.carry(seen)
    if not isinstance(carried, Tensor) or carried.shape != seen.clean.shape:
        given = list(carried.shape) if isinstance(carried, Tensor) else type(carried).__name__
        raise UserError(
            f"{type(forcing).__name__}.carry gave {given}: "
            f"wanted latents of shape {list(seen.clean.shape)}, that of section.clean"
        )
    if not carried.isfinite().all() and seen.velocity.isfinite().all():
        raise UserError(f"{type(forcing).__name__}.carry gave numbers that are not finite, of a velocity that is")
    return carried


@dataclass(frozen=True)
class _Sampled:
    """The network for a forcing that samples: nothing is made ready for one that does not."""

    denoiser: Denoiser
    context: Context
    conditioning: Conditioning
    negative_memory: bool

    @cached_property
    def _velocity(self) -> Callable[[Latents, Level], Latents]:
        return guided_velocity(self.denoiser, self.context, self.conditioning, self.negative_memory)

    @torch.no_grad()
    def __call__(self, x: Latents, sigma: Level) -> Latents:
        return self._velocity(x, sigma)
