"""A forcing of one's own: one class with one method. configs/examples/own.yaml names it."""

from dataclasses import dataclass

import torch

from mpgen.flow import add_noise
from mpgen.tensors import Latents
from mpgen.training.forcing import Forcing, SectionPass


@dataclass(frozen=True)
class NoisyTeacher(Forcing):
    """The data with a little noise.

    Args:
        sigma: noise level of what the next section sees, in [0, 1].
    """

    sigma: float = 0.1

    def carry(self, section: SectionPass) -> Latents:
        return add_noise(section.clean, section.noise, torch.full_like(section.sigma, self.sigma))
