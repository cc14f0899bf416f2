"""Which sections of a video are noisy at the same time, and how noisy each is.

A *stage* is a number of steps in which the same sections are denoised side by side. FramePack has one section a stage.
MAGI-1 (arXiv 2505.13211) has a window of several, each farther along than the one after it: at every stage a new
section joins as pure noise and the oldest leaves finished. Training and generation go through the same stages.
"""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.errors import UserError
from mpgen.flow import SigmaDraw, add_noise, shift_sigma, sigma_schedule
from mpgen.sampling import Sampler, VelocityFn, euler, euler_by_frame
from mpgen.tensors import Latents, Sigma

History = Float[Tensor, "b c kept h w"]  # the latent frames that the short-term context reaches


@dataclass(frozen=True)
class Stage:
    """Some steps in which the same sections are denoised side by side.

    Args:
        number: of the stage, counted so that section j joins at stage j.
        sections: those that are noisy, the oldest first.
        window: stages that every section takes.
    """

    number: int
    sections: range
    window: int

    @property
    def ages(self) -> tuple[int, ...]:
        """Stages that each section has behind it."""
        return tuple(self.number - section for section in self.sections)

    @property
    def joining(self) -> int | None:
        """The section that begins here as pure noise; None once all have begun."""
        return self.number if self.number in self.sections else None

    @property
    def finished(self) -> int | None:
        """The section that is clean after this stage, the oldest; None while the first is still on its way."""
        return self.sections[0] if self.ages[0] + 1 == self.window else None


class Schedule(metaclass=ABCMeta):  # with ABC as a base, configs could no longer name and link its fields
    """The order in which the sections of a video lose their noise."""

    window: int
    """Sections that are noisy at the same time, at most."""
    is_causal: ClassVar[bool]
    """Whether a section is blind to the noisy ones after it."""
    context_sigma: ClassVar[float | None]
    """Noise level that history is modulated with; the section's own if None, as in FramePack."""

    def count_stages(self, num_sections: int) -> int:
        """Stages until the last of so many sections is done."""
        return num_sections + self.window - 1

    def stages(self, num_sections: int, num_given: int = 0) -> Iterator["Stage"]:
        """All stages of a video, in order; the j-th section joins at the j-th stage and is there for `window` stages.

        Args:
            num_sections: of the whole video.
            num_given: the first so many are known, and are in no stage.
        """
        for number in range(num_given, num_given + self.count_stages(num_sections - num_given)):
            oldest = max(num_given, number - self.window + 1)
            yield Stage(number, range(oldest, min(number + 1, num_sections)), self.window)

    def levels(self, steps: int, shift: float, ages: Sequence[int], first: float = 1.0) -> Float[Tensor, "s sections"]:
        """Noise levels of one stage's steps, a column for each section.

        Args:
            steps: of a section's whole way from noise to clean; rounded up to as many in each stage.
            shift: of the noise levels towards 1.
            ages: stages that each section has behind it.
            first: the highest level, before the shift.
        """
        each = -(-steps // self.window)
        descent = self.descent(each * self.window, shift, first)
        return torch.stack([descent[age * each : (age + 1) * each + 1] for age in ages], 1)

    @abstractmethod
    def descent(self, steps: int, shift: float, first: float = 1.0) -> Float[Tensor, " {steps}+1"]:
        """A section's noise levels from `first` down to 0; shifted afterwards."""

    @abstractmethod
    def draw(self, uniform: Float[Tensor, " b"], ages: Sequence[int], frames: int, sigma_draw: SigmaDraw) -> Sigma:
        """Noise levels to train a stage with.

        Args:
            uniform: one number in (0, 1) for each video.
            ages: stages that each section has behind it.
            frames: latent frames of a section.
            sigma_draw: where the schedule leaves the levels open.
        """

    def shown(self, history: History, sigma: Sigma, noise: Callable[[], History]) -> History:
        """The history as a section at this noise level is shown it: as it is.

        Args:
            history: latent frames before the section, zeros where there are none.
            sigma: noise level of each video's section.
            noise: makes standard normal noise of the history's shape.
        """
        return history

    def velocity(self, on_context: Callable[[float], VelocityFn]) -> VelocityFn:
        """The velocity for a sampler.

        Args:
            on_context: makes it on the context that a section at a noise level is shown.
        """
        return on_context(0.0)

    @abstractmethod
    def denoise(
        self, sampler: Sampler, velocity_fn: VelocityFn, x: Latents, levels: Float[Tensor, "s sections"]
    ) -> Latents:
        """The sections of a stage, taken down their columns of `levels`."""


@dataclass(frozen=True)
class Sequential(Schedule):
    """One section after another (FramePack)."""

    window: ClassVar[int] = 1
    is_causal = False
    context_sigma = None

    def descent(self, steps: int, shift: float, first: float = 1.0) -> Float[Tensor, " {steps}+1"]:
        return sigma_schedule(steps, shift, first)

    def draw(self, uniform: Float[Tensor, " b"], ages: Sequence[int], frames: int, sigma_draw: SigmaDraw) -> Sigma:
        return sigma_draw(uniform)

    def denoise(
        self, sampler: Sampler, velocity_fn: VelocityFn, x: Latents, levels: Float[Tensor, "s sections"]
    ) -> Latents:
        return sampler(velocity_fn, x, levels[:, 0])


@dataclass(frozen=True)
class SharedLevel(Sequential):
    """One section after another, each shown its history at its own noise level (HiAR, arXiv 2603.08703).

    Errors of the history are then never certain. There all sections go down the noise levels together, each beside what
    the others are at that moment; here what is finished is noised again (our choice). The start image and the memory
    stay clean, and slots without history empty.
    """

    def shown(self, history: History, sigma: Sigma, noise: Callable[[], History]) -> History:
        there = history.abs().amax((1, 3, 4), keepdim=True) > 0
        return torch.where(there, add_noise(history, noise(), sigma).to(history), history)

    def velocity(self, on_context: Callable[[float], VelocityFn]) -> VelocityFn:
        return lambda x, sigma: on_context(sigma)(x, sigma)


@dataclass(frozen=True)
class Staircase(Schedule):
    """MAGI-1's: a window of sections, the oldest nearly clean, the youngest nearly noise, a constant lag apart.

    Along a section's way, u from 0 to 1, the noise level is 1 - u ** `power`, shifted; 2 and 3 are MAGI-1's numbers.
    How MAGI-1 was trained is not known to us: we draw u evenly, the same in every section but for the lag.

    Args:
        window: sections at a time.
        power: how long a section stays noisy.
        shift: of the noise levels towards 1.
    """

    window: int = 4
    power: float = 2.0
    shift: float = 3.0

    is_causal = True
    context_sigma = 0.0

    def __post_init__(self):
        if self.window < 2 or self.power <= 0 or self.shift <= 0:
            raise UserError(f"{self}: wanted a window of at least 2 sections, power and shift above 0")

    def sigma(self, progress: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The noise level of a section that has `progress` of its way behind it, in [0, 1]."""
        return shift_sigma(1 - progress**self.power, self.shift)

    def descent(self, steps: int, shift: float, first: float = 1.0) -> Float[Tensor, " {steps}+1"]:
        progress = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        return shift_sigma(first * self.sigma(progress), shift).float()

    def draw(self, uniform: Float[Tensor, " b"], ages: Sequence[int], frames: int, sigma_draw: SigmaDraw) -> Sigma:
        progress = (uniform[:, None] + torch.tensor(ages, device=uniform.device)) / self.window
        return self.sigma(progress).repeat_interleave(frames, 1)

    def denoise(
        self, sampler: Sampler, velocity_fn: VelocityFn, x: Latents, levels: Float[Tensor, "s sections"]
    ) -> Latents:
        if sampler is not euler:
            raise UserError(f"--sampler {sampler.__name__}: wanted euler, for sections at different noise levels")
        return euler_by_frame(velocity_fn, x, levels.repeat_interleave(x.shape[2] // levels.shape[1], 1))
