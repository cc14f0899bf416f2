"""Forcings that ask what Direct Forcing leaves open: how often, in how many steps, and from which noise level.

The reviewers of the paper asked whether one stage with a probability would do (R4, question 5), and whether several
steps would help where one does not reach the sample (question 7).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.errors import UserError
from mpgen.flow import LogitNormal, add_noise, expand
from mpgen.tensors import Latents, Sigma
from mpgen.training.forcing import DirectForcing, Forcing, SectionPass


def finish(
    velocity_fn: Callable[[Latents, Float[Tensor, "b t"]], Latents],
    x: Latents,
    sigma: Sigma,
    steps: int,
    velocity: Latents | None = None,
) -> Latents:
    """The clean end that Euler steps reach from here, each of the same share of a video's noise level.

    Args:
        velocity_fn: the network, at noise levels of each video's latent frames.
        x: latents on the path at `sigma`.
        sigma: noise level in [0, 1].
        steps: how many; 1 is Direct Forcing's estimate.
        velocity: that of `x`, if it is known; then there is one forward less.
    """
    levels = sigma[:, None].expand(-1, x.shape[2]) if sigma.ndim == 1 else sigma
    for number in range(steps):
        level = levels * (1 - number / steps)
        now = velocity_fn(x, level) if velocity is None or number else velocity
        x = x - expand(levels / steps, x) * now
    return x


@dataclass(frozen=True)
class Sometimes(Forcing):
    """Another forcing with some probability, else the data: video by video, in one stage.

    Args:
        share: how often the forcing is asked, in [0, 1].
        forcing: which.
    """

    share: float = 0.5
    forcing: Forcing = field(default_factory=DirectForcing)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"model.forcing share {self.share}: wanted a number in [0, 1]")

    def carry(self, section: SectionPass) -> Latents:
        # The last of many numbers, for the forcing may draw from the first ones.
        drawn = torch.stack([torch.rand(100, generator=generator)[-1] for generator in section.generators()])
        asked = (drawn < self.share).to(section.clean.device)[:, None, None, None, None]
        return torch.where(asked, self.forcing.carry(section), section.clean)


@dataclass(frozen=True)
class EstimateInSteps(Forcing):
    """Direct Forcing's estimate in several Euler steps, the first of which is the loss's own forward pass.

    Args:
        steps: from the section's noise level to 0; each after the first is one more forward without a gradient.
    """

    steps: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"model.forcing steps {self.steps}: wanted 1 at least")

    def carry(self, section: SectionPass) -> Latents:
        return finish(section.velocity_fn, section.noisy, section.sigma, self.steps, section.velocity)


@dataclass(frozen=True)
class ResamplingForcing(Forcing):
    """The data noised anew to a level of its own and denoised by the model (arXiv 2512.15702).

    Unlike Direct Forcing's, the noise is not the loss's, so how wrong the history is does not hang on how noisy the
    section was; 0.6 is the paper's shift towards low noise. That paper routes the history too, which is not done here.

    Args:
        steps: Euler steps, each a forward without a gradient.
        sigma: how the noise level is drawn.
    """

    steps: int = 1
    sigma: LogitNormal = field(default_factory=lambda: LogitNormal(shift=0.6))

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"model.forcing steps {self.steps}: wanted 1 at least")

    def carry(self, section: SectionPass) -> Latents:
        generators, clean = section.generators(), section.clean
        uniform = torch.stack([torch.rand((), generator=generator) for generator in generators])
        noise = torch.stack([torch.randn(clean.shape[1:], generator=generator) for generator in generators])
        sigma = self.sigma(uniform).to(clean.device)
        return finish(section.velocity_fn, add_noise(clean, noise.to(clean), sigma), sigma, self.steps)
