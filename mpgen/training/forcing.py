"""Where the history comes from while training: the data, the model's sampler, or its one-step estimate (paper §4.2.2).

A forcing has one method, `carry`, called after the forward pass of a section: it returns the latents that the next
section will see as its past. What is carried never has a gradient.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mpgen.flow import expand, sigma_schedule, to_clean
from mpgen.sampling import euler
from mpgen.tensors import Latents, Sigma


@dataclass(frozen=True)
class SectionPass:
    """One section's forward pass, as a forcing sees it.

    Args:
        clean: the data.
        noise: the end of the path at sigma 1.
        noisy: the point at `sigma` that the network saw.
        sigma: noise level of each video.
        velocity: what the network said, detached.
        velocity_fn: the network on this section's context, at any point and one noise level, without a gradient.
    """

    clean: Latents
    noise: Latents
    noisy: Latents
    sigma: Sigma
    velocity: Latents
    velocity_fn: Callable[[Latents, float], Latents]


class Forcing(ABC):
    """What a section is told of the section before it."""

    @abstractmethod
    def carry(self, section: SectionPass) -> Latents:
        """The section as the next one will remember it."""


@dataclass(frozen=True)
class TeacherForcing(Forcing):
    """The data itself: what generation will never have, hence exposure bias."""

    def carry(self, section: SectionPass) -> Latents:
        return section.clean


@dataclass(frozen=True)
class DirectForcing(Forcing):
    """The clean end that the loss's own forward pass points to (§4.2.2): no extra forward.

    Args:
        sigma_max: above this noise level the data is carried instead. The estimate's error grows with sigma, towards a
            blurred mean; the paper sets no bound, which is 1.
    """

    sigma_max: float = 1.0

    def carry(self, section: SectionPass) -> Latents:
        estimate = to_clean(section.noisy, section.sigma, section.velocity)
        return torch.where(expand(section.sigma, estimate) <= self.sigma_max, estimate, section.clean)


@dataclass(frozen=True)
class StudentForcing(Forcing):
    """The model's own sample: the costly baseline (Table 2 runs 5 steps).

    Args:
        steps: forwards of the sampler, on top of the one for the loss.
        shift: of the sampler's noise levels.
    """

    steps: int = 5
    shift: float = 1.0

    def carry(self, section: SectionPass) -> Latents:
        return euler(section.velocity_fn, section.noise, sigma_schedule(self.steps, self.shift))
