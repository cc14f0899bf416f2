"""The network as a sampler wants it: on one context, and guided by its text where that is a second forward."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mpgen.backbones.base import Context
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser
from mpgen.sampling import Level
from mpgen.tensors import Latents


def guided_velocity(
    denoiser: Denoiser,
    context: Context,
    conditioning: Conditioning,
    negative_memory: bool = True,
    dtype: torch.dtype | None = None,
) -> Callable[[Latents, Level], Latents]:
    """The velocity at a noise level: with both branches of guidance where there are two, without a gradient.

    Args:
        denoiser: the network.
        context: of the sections that are denoised.
        conditioning: with the guidance scale, and the negative branch if there is one.
        negative_memory: whether that branch reads the long-term memory too; history is always in both.
        dtype: of the latents that the network is given; as they come if None.
    """
    prepared, scale = denoiser.backbone.prepared, conditioning.guidance_scale
    if denoiser.backbone.config.distilled_guidance or conditioning.negative is None or scale == 1:
        return _Velocity(denoiser, context, prepared(conditioning), dtype)
    both = context.repeated(2) if negative_memory else context.above_without_memory()
    return _Guided(_Velocity(denoiser, both, prepared(conditioning.above_negative()), dtype), scale)


@dataclass(frozen=True)
class _Velocity:
    """The network on one context: fp32 outside, a dtype of choice inside."""

    denoiser: Denoiser
    context: Context
    conditioning: Conditioning
    dtype: torch.dtype | None

    @torch.no_grad()
    def __call__(self, x: Latents, sigma: Level) -> Latents:
        levels = sigma.expand(len(x), -1) if isinstance(sigma, Tensor) else x.new_full((len(x),), sigma)
        return self.denoiser(x.to(self.dtype), levels, self.context, self.conditioning).float()


@dataclass(frozen=True)
class _Guided:
    """Classifier-free guidance (arXiv 2207.12598) in one forward of two: away from the negative branch.

    Args:
        velocity: of a batch of the videos, and of the same with the negative branch.
        scale: of guidance; 1 is the prompt alone.
    """

    velocity: _Velocity
    scale: float | int

    def __call__(self, x: Latents, sigma: Level) -> Latents:
        both = torch.cat([sigma, sigma]) if isinstance(sigma, Tensor) and sigma.ndim == 2 else sigma
        towards, away = self.velocity(torch.cat([x, x]), both).chunk(2)
        return away + self.scale * (towards - away)
