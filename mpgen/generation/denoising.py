"""How a video is denoised, as options: the sampler by its name, and what it does."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Literal

from mpgen.checkpoints import LoadedModel
from mpgen.checkpoints.sources import read_json
from mpgen.errors import UserError
from mpgen.flow import shift_for_tokens
from mpgen.generation.caches import CACHES, Caching
from mpgen.generation.pipeline import Job
from mpgen.generation.rollout import Sampling
from mpgen.memory.controls import CONTROLS, OTHER_VIDEO, OWN
from mpgen.options import Options, choose
from mpgen.sampling import SAMPLERS, check_pyramid, helios_distilled
from mpgen.video.clips import decode_clip
from mpgen.video.opening import read_metadata

STEPS = 10
MAX_STEPS = 1000  # noise levels that the released networks were trained with
MAX_SHIFT = 100.0
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Denoising(Options):
    """How it is denoised.

    Args:
        sampler: one of `mpgen.sampling.SAMPLERS`: euler, unipc (third order, FramePack's), unipc_flow (Helios'),
            helios_distilled (Helios-Distilled's, which is taken for it). euler if not given.
        steps: forwards a section; 10 if not given, and 6 for Helios-Distilled, twice as many in the first section.
        shift: of the noise levels towards 1; "auto" follows from the tokens of a section as in FramePack, 7 at 480p.
            If not given, that of training for a checkpoint and "auto" with --model.
        guidance_scale: of classifier-free guidance (CFG): an input of HunyuanVideo, which was distilled so; with Wan a
            batch of two. That of training if not given; of released weights theirs, 10 and 5.
        seed: of the noise.
        negative_prompt: what guidance leads away from, where it is two forwards; that of training if
            not given, which is an empty text elsewhere.
        negative_memory: whether the branch that guidance leads away from reads the long-term memory too; false leads
            towards what is remembered. That of training if not given.
        cache: skip forwards that would change little, faster and not lossless: first_block; mag, with --mag_ratios; or
            mag_calibrate, which skips none and measures those.
        cache_threshold: how much change is still taken for little; 0.05 for first_block and 0.06 for mag if not given.
        mag_ratios: the JSON beside a video that was made with --cache mag_calibrate.
        memory_control: for a claim about memory, its control: psi of another video (other_video), frozen after the
            first window, of the windows in shuffled order, or removed. The memory's own if not given.
        memory_video: the other video; without it that of the next of several videos, as far as it is given.
    """

    sampler: str | None = None
    steps: int | None = None
    shift: float | Literal["auto"] | None = None
    guidance_scale: float | None = None
    seed: int = 0
    negative_prompt: str | None = None
    negative_memory: bool | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    mag_ratios: Path | None = None
    memory_control: str = OWN
    memory_video: Path | None = None

    def __post_init__(self) -> None:
        if self.sampler is not None:
            choose(SAMPLERS, self.sampler, f"--sampler {self.sampler}")
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise UserError(f"--steps {self.steps}: wanted 1 to {MAX_STEPS}")
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"--seed {self.seed}: wanted a whole number from 0 to {MAX_SEED}")
        if isinstance(self.shift, float) and not 0 < self.shift <= MAX_SHIFT:
            raise UserError(f"--shift {self.shift:g}: wanted more than 0 and at most {MAX_SHIFT:g}, or auto")
        if self.guidance_scale is not None and not (isfinite(self.guidance_scale) and self.guidance_scale >= 0):
            raise UserError(f"--guidance_scale {self.guidance_scale:g}: wanted 0 or more")
        self._caching()
        if self.memory_control != OWN:
            choose(CONTROLS, self.memory_control, f"--memory_control {self.memory_control}")
        if self.memory_video is not None and self.memory_control != OTHER_VIDEO:
            raise UserError(f"--memory_video belongs to --memory_control {OTHER_VIDEO}: wanted both, or neither")
        if self.memory_video is not None and not self.memory_video.is_file():
            raise UserError(f"--memory_video {self.memory_video} does not exist, or is no file")

    def controlled(self, model: LoadedModel, jobs: Sequence[Job]) -> list[Job]:
        """The jobs, each with the video whose memory it gets.

        Raises:
            UserError: there is no other video, or no memory.
        """
        if self.memory_control != OWN and model.denoiser.memory is None:
            raise UserError(f"--memory_control {self.memory_control}: wanted a model with a long-term memory")
        if self.memory_control != OTHER_VIDEO:
            return list(jobs)
        if self.memory_video is None and len(jobs) == 1:
            raise UserError(f"--memory_control {OTHER_VIDEO}: wanted --memory_video, of which the memory is made")
        following = [*jobs[1:], jobs[0]]
        return [
            replace(job, other=after if self.memory_video is None else self._other(model, job))
            for job, after in zip(jobs, following, strict=True)
        ]

    def _other(self, model: LoadedModel, job: Job) -> Job:
        """The video at the size of the job, with the prompt that it says it was made with, if any."""
        assert self.memory_video is not None
        frames = decode_clip(self.memory_video, model.fps, *job.size_px)
        try:
            prompt = json.loads(read_metadata(self.memory_video).get("comment", ""))["prompt"]
        except (ValueError, KeyError, TypeError):
            prompt = ""
        return Job(str(prompt), frames[0], frames[1:], 0, self.memory_video)

    def of(self, model: LoadedModel, job: Job, usual_shift: float | Literal["auto"]) -> Sampling:
        """What the rollout of a job is asked for."""
        sampler = SAMPLERS[self.sampler or model.card.get("sampler", "euler")]
        steps = self.steps or model.card.get("forwards", STEPS)  # "steps" there are the optimizer's
        scale = model.guidance_scale if self.guidance_scale is None else self.guidance_scale
        if self.negative_prompt is not None and model.denoiser.backbone.config.distilled_guidance:
            raise UserError(
                "--negative_prompt: guidance is an input of this model, which sees no such text; "
                "wanted --guidance_scale alone"
            )
        if self.negative_prompt and scale == 1:
            raise UserError(
                "--negative_prompt: at --guidance_scale 1 it has no effect; wanted a larger scale, such as 5"
            )
        if self.negative_memory is not None and (
            model.denoiser.memory is None or model.denoiser.backbone.config.distilled_guidance
        ):
            raise UserError(
                "--negative_memory: wanted a model with a memory and with guidance of two forwards, such as Wan's"
            )
        asked = model.card.get("shift", usual_shift) if self.shift is None else self.shift
        shift = _shift_for(model, job) if asked == "auto" else float(asked)
        if sampler is helios_distilled:
            self._check_distilled(model, job, steps, scale)
        return Sampling(
            sampler,
            steps,
            shift,
            scale,
            self.seed,
            model.card.get("negative_prompt", "") if self.negative_prompt is None else self.negative_prompt,
            self._caching(),
            model.card.get("negative_memory", True) if self.negative_memory is None else self.negative_memory,
            first_times=2 if sampler is helios_distilled else 1,
            memory_control=self.memory_control,
        )

    def _check_distilled(self, model: LoadedModel, job: Job, steps: int, scale: float) -> None:
        check_pyramid(steps, *(side // model.encoders.vae.spatial_stride for side in job.size_px))
        if scale != 1:
            raise UserError(
                f"--guidance_scale {scale:g}: Helios-Distilled was trained to need none; wanted 1 with --sampler "
                "helios_distilled"
            )
        if self.cache is not None:
            raise UserError(
                f"--cache {self.cache}: steps of --sampler helios_distilled have different sizes; wanted none"
            )

    def _caching(self) -> Caching | None:
        if self.cache is None:
            if self.cache_threshold is not None or self.mag_ratios is not None:
                raise UserError("--cache_threshold and --mag_ratios belong to a cache: wanted --cache with them")
            return None
        choose(CACHES, self.cache, f"--cache {self.cache}")
        if self.cache_threshold is not None and not (isfinite(self.cache_threshold) and self.cache_threshold >= 0):
            raise UserError(f"--cache_threshold {self.cache_threshold:g}: wanted 0 or more")
        if (self.cache == "mag") != (self.mag_ratios is not None):
            raise UserError(
                "--cache mag needs --mag_ratios, which no other cache takes: they are measured once for a model, by "
                "--cache mag_calibrate"
            )
        ratios = () if self.mag_ratios is None else _read_ratios(self.mag_ratios)
        return Caching(self.cache, self.cache_threshold, ratios)


def _read_ratios(path: Path) -> tuple[float, ...]:
    ratios = read_json(path).get("mag_ratios")
    if not isinstance(ratios, list) or not ratios:
        raise UserError(f"--mag_ratios {path} holds none: wanted the JSON of a video made with --cache mag_calibrate")
    for ratio in ratios:
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not (isfinite(ratio) and ratio > 0):
            raise UserError(f"--mag_ratios {path}: {str(ratio)[:30]!r} is no ratio: wanted numbers above 0")
    return tuple(map(float, ratios))


def _shift_for(model: LoadedModel, job: Job) -> float:
    """FramePack's shift for the tokens of one section."""
    side_px = model.encoders.vae.spatial_stride * model.denoiser.backbone.config.patch[1]
    height, width = job.size_px
    return shift_for_tokens(model.denoiser.layout.section * (height // side_px) * (width // side_px))
