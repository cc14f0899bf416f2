"""Where the history comes from while training: the data, the model's sampler, or its one-step estimate (paper §4.2.2).

A forcing has one method, `carry`, called after the forward pass of a section: it returns the latents that the next
section will see as its past. What is carried never has a gradient.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mpgen.errors import UserError
from mpgen.flow import add_noise, expand, sigma_schedule, to_clean
from mpgen.sampling import Level, euler
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
        velocity_fn: the network on this section's context, without a gradient, at any point and one noise level, or one
            of each video's latent frames.
        generators: makes one generator for each video, whose numbers follow from step, video and section alone.
    """

    clean: Latents
    noise: Latents
    noisy: Latents
    sigma: Sigma
    velocity: Latents
    velocity_fn: Callable[[Latents, Level], Latents]
    generators: Callable[[], Sequence[torch.Generator]]


class Forcing(ABC):
    """What the next section is conditioned on in place of this one."""

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


@dataclass(frozen=True)
class CorruptedHistory(Forcing):
    """The data, damaged at random as Helios does it (2026; public training recipe): no estimate, no extra forward.

    Of each video's section one of three happens: it stays clean; it is blurred and its latents are scaled about their
    channels' means; or every latent frame gets noise of its own level. How often the second is what is an estimate.

    Args:
        clean: how often nothing happens, in [0, 1].
        degraded: how often it is blurred and scaled, in [0, 1]; noise for the rest.
        sigma_max: noise levels are even in [0, `sigma_max`].
        blur: the smallest scale that pictures are made smaller by and large again, in (0, 1].
        contrast: latents are scaled by 1 - `contrast` to 1 + `contrast`, in [0, 1).
    """

    clean: float = 0.1
    degraded: float = 0.1
    sigma_max: float = 1 / 3
    blur: float = 0.9
    contrast: float = 0.7

    def __post_init__(self) -> None:
        ranges = (self.clean >= 0, self.degraded >= 0, self.clean + self.degraded <= 1, 0 <= self.sigma_max <= 1)
        if not (all(ranges) and 0 < self.blur <= 1 and 0 <= self.contrast < 1):
            raise UserError(f"{self}: wanted shares that add up to 1 at most, and the ranges that its text gives")

    def carry(self, section: SectionPass) -> Latents:
        videos = zip(section.clean.split(1), section.generators(), strict=True)
        return torch.cat([self._corrupt(video, generator) for video, generator in videos])

    def _corrupt(self, video: Latents, generator: torch.Generator) -> Latents:
        kind, size, scale = torch.rand(3, generator=generator).tolist()
        if kind < self.clean:
            return video
        if kind < self.clean + self.degraded:
            mean = video.mean((2, 3, 4), keepdim=True)
            return mean + (1 + self.contrast * (2 * scale - 1)) * (self._blurred(video, size) - mean)
        levels = self.sigma_max * torch.rand(1, video.shape[2], generator=generator)
        return add_noise(video, torch.randn(video.shape, generator=generator).to(video), levels.to(video))

    def _blurred(self, video: Latents, size: float) -> Latents:
        rows, columns = video.shape[3:]
        scale = self.blur + (1 - self.blur) * size
        small = (video.shape[2], max(1, round(rows * scale)), max(1, round(columns * scale)))
        return F.interpolate(F.interpolate(video, small, mode="trilinear"), video.shape[2:], mode="trilinear")


@dataclass(frozen=True)
class RecycledErrors(Forcing):
    """The data with another video's error, in the manner of SVI's error bank (arXiv 2510.09212).

    The error is Direct Forcing's, estimate minus data; the bank is the batch, so nothing has to be kept for a resume.
    A batch of one video has only its own error: then this is Direct Forcing.

    Args:
        clean: how often a video keeps its true history, in [0, 1]; SVI's recipes take about 0.1 to 0.2.
    """

    clean: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.clean <= 1:
            raise UserError(f"clean {self.clean}: wanted a share in [0, 1]")

    def carry(self, section: SectionPass) -> Latents:
        error = to_clean(section.noisy, section.sigma, section.velocity) - section.clean
        keep = torch.stack([torch.rand((), generator=generator) for generator in section.generators()]) < self.clean
        kept: Float[Tensor, "b 1 1 1 1"] = keep.to(error.device)[:, None, None, None, None]
        return torch.where(kept, section.clean, section.clean + error.roll(1, 0))
