"""How a video is denoised, as options: the sampler by its name, and what it does."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from mpgen.checkpoints import LoadedModel
from mpgen.errors import UserError
from mpgen.flow import shift_for_tokens
from mpgen.generation.pipeline import Job
from mpgen.generation.rollout import Sampling
from mpgen.options import Options, choose
from mpgen.sampling import SAMPLERS

MAX_STEPS = 1000  # noise levels that the released networks were trained with
MAX_SHIFT = 100.0
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Denoising(Options):
    """How it is denoised.

    Args:
        sampler: one of `mpgen.sampling.SAMPLERS`, such as euler, or unipc (third order).
        steps: forwards a section.
        shift: of the noise levels towards 1; "auto" follows from the tokens of a section as in FramePack, 7 at 480p.
            1 for a checkpoint and "auto" with --model if not given.
        guidance_scale: the distilled CFG scale; the one of training, and 10 for released weights, if not given.
        seed: of the noise.
    """

    sampler: str = "euler"
    steps: int = 10
    shift: float | Literal["auto"] | None = None
    guidance_scale: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        choose(SAMPLERS, self.sampler, f"--sampler {self.sampler}")
        if not 1 <= self.steps <= MAX_STEPS:
            raise UserError(f"--steps {self.steps}: wanted 1 to {MAX_STEPS}")
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"--seed {self.seed}: wanted a whole number from 0 to {MAX_SEED}")
        if isinstance(self.shift, float) and not 0 < self.shift <= MAX_SHIFT:
            raise UserError(f"--shift {self.shift:g}: wanted more than 0 and at most {MAX_SHIFT:g}, or auto")
        if self.guidance_scale is not None and not (isfinite(self.guidance_scale) and self.guidance_scale >= 0):
            raise UserError(f"--guidance_scale {self.guidance_scale:g}: wanted 0 or more")

    def of(self, model: LoadedModel, job: Job, usual_shift: float | Literal["auto"]) -> Sampling:
        """What the rollout of a job is asked for."""
        scale = model.guidance_scale if self.guidance_scale is None else self.guidance_scale
        asked = usual_shift if self.shift is None else self.shift
        shift = _shift_for(model, job) if asked == "auto" else float(asked)
        return Sampling(SAMPLERS[self.sampler], self.steps, shift, scale, self.seed)


def _shift_for(model: LoadedModel, job: Job) -> float:
    """FramePack's shift for the tokens of one section."""
    side_px = model.encoders.vae.spatial_stride * model.denoiser.backbone.config.patch[1]
    height, width = job.start.shape[:2]
    return shift_for_tokens(model.denoiser.layout.section * (height // side_px) * (width // side_px))
