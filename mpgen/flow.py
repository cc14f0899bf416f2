"""Rectified flow (paper §4.2.1-2): the straight path, its velocity, and the one-step estimate of its clean end.

The one conversion in this code base: the paper writes t = 1 - sigma, x_t = t * x + (1 - t) * noise and the velocity
x - noise; we write HunyuanVideo's convention, sigma = 1 for noise and velocity = noise - clean. Nowhere else converts.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.tensors import Latents, Sigma


def expand(sigma: Sigma, latents: Latents) -> Float[Tensor, "b 1 #t 1 1"]:
    """Sigma shaped to multiply latents, whether it is given per video or per latent frame."""
    return sigma[:, None, None, None, None] if sigma.ndim == 1 else sigma[:, None, :, None, None]


def add_noise(clean: Latents, noise: Latents, sigma: Sigma) -> Latents:
    """The point at `sigma` on the straight path from `clean` (0) to `noise` (1)."""
    s = expand(sigma, clean)
    return (1 - s) * clean + s * noise


def velocity_target(clean: Latents, noise: Latents) -> Latents:
    """The direction of the path, the same at every sigma: what the network learns to predict."""
    return noise - clean


def to_clean(noisy: Latents, sigma: Sigma, velocity: Latents) -> Latents:
    """The clean latents that a straight path would reach from here: x - sigma * v.

    Direct Forcing's one-step estimate (paper §4.2.2, with t = 1 - sigma); also the sampler's preview.

    Args:
        noisy: latents on the path at `sigma`.
        sigma: noise level in [0, 1]; 1 is pure noise.
        velocity: the network's prediction, noise minus clean.
    """
    return noisy - expand(sigma, noisy) * velocity


def shift_sigma(sigma: Float[Tensor, "*any"], shift: float) -> Float[Tensor, "*any"]:
    """Moves noise levels towards 1, as larger pictures need: s * sigma / (1 + (s - 1) * sigma); 1 changes nothing."""
    return shift * sigma / (shift * sigma + (1 - sigma))  # in this form rounding never leaves [0, 1]


def shift_for_tokens(num_tokens: int) -> float:
    """FramePack's shift for a section of `num_tokens`: exp of the line through (256, 0.5), (4096, 1.15), at most 7."""
    return math.exp(min(mu_for_tokens(num_tokens), math.log(7.0)))


def mu_for_tokens(num_tokens: int) -> float:
    """The line through (256, 0.5) and (4096, 1.15)."""
    return 0.5 + (1.15 - 0.5) / (4096 - 256) * (num_tokens - 256)


def sigma_schedule(steps: int, shift: float = 1.0, first: float = 1.0) -> Float[Tensor, " {steps}+1"]:
    """Noise levels of a sampler, from `first` down to 0: `steps` intervals, evenly spaced and then shifted."""
    return shift_sigma(torch.linspace(first, 0, steps + 1, dtype=torch.float64), shift).float()


class SigmaDraw(ABC):
    """How training draws its noise levels; `uniform` in (0, 1) comes from the caller's generator."""

    @abstractmethod
    def __call__(self, uniform: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]: ...


@dataclass(frozen=True)
class LogitNormal(SigmaDraw):
    """sigma = sigmoid(mean + std * normal), then shifted. FramePack trainers take 0, 1, 3; the paper does not say."""

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def __call__(self, uniform: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        normal = math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-0.999999, 0.999999))
        return shift_sigma(torch.sigmoid(self.mean + self.std * normal), self.shift)


@dataclass(frozen=True)
class Uniform(SigmaDraw):
    """Every noise level alike, then shifted."""

    shift: float = 1.0

    def __call__(self, uniform: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        return shift_sigma(uniform, self.shift)
