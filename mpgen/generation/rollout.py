"""Sections one after another, as latents. Constant memory: what is yielded is forgotten but for history and memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import torch

from mpgen.backbones.base import Context
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser
from mpgen.errors import FailedError
from mpgen.generation.caches import Caching, Forwards, cached
from mpgen.generation.guidance import guided_velocity
from mpgen.generation.store import LatentStore
from mpgen.generation.watching import Watched, Watcher
from mpgen.memory.controls import OWN, OtherVideo
from mpgen.past import Past
from mpgen.sampling import Sampler, VelocityFn
from mpgen.schedule import Stage
from mpgen.sections import Layout
from mpgen.tensors import Latents, Still


@dataclass(frozen=True)
class Sampling:
    """How a section is denoised.

    Args:
        sampler: `euler` or `unipc`.
        steps: forwards a section.
        shift: of the noise levels towards 1; FramePack's value at 480p is 7.
        guidance_scale: strength of classifier-free guidance.
        seed: of the noise; section k of a video always begins from the same noise.
        negative_prompt: what guidance leads away from, where it is a second forward; the pipeline encodes it.
        cache: skips forwards that would change little; None for none.
        negative_memory: whether the branch that guidance leads away from reads the long-term memory too.
        first_times: the first section takes so many times the steps, as Helios-Distilled's.
        memory_control: what psi is made of in place of the video's own windows: see `mpgen.memory.controls`.
    """

    sampler: Sampler
    steps: int
    shift: float
    guidance_scale: float
    seed: int
    negative_prompt: str = ""
    cache: Caching | None = None
    negative_memory: bool = True
    first_times: int = 1
    memory_control: str = OWN


@dataclass(frozen=True)
class Script:
    """A prompt that changes on the way.

    Where it changes, the long-term memory is made anew from all sections so far under the new prompt, so they are kept.

    Args:
        conditionings: one for each section to make, in the order they are made; the same object while nothing changes.
        past: takes the sections.
    """

    conditionings: Sequence[Conditioning]
    past: LatentStore


def rollout(
    denoiser: Denoiser,
    start: Still,
    conditioning: Conditioning,
    num_sections: int,
    sampling: Sampling,
    known: Sequence[Latents] = (),
    layout: Layout | None = None,
    end: Still | None = None,
    script: Script | None = None,
    forwards: Forwards | None = None,
    blank: bool = False,
    watcher: Watcher | None = None,
    other: OtherVideo | None = None,
) -> Iterator[Latents]:
    """The sections of a video, each as soon as it is clean.

    Args:
        denoiser: the network, in evaluation mode.
        start: the start image's latents.
        conditioning: text and image features.
        num_sections: sections to make, after the known ones.
        sampling: how.
        known: true sections that come first, to continue a given video; they are not yielded.
        layout: in which order the sections are made; that of training if None.
        end: the last image's latents, for layouts that take one.
        script: other conditioning for some sections.
        forwards: counts what a cache skips.
        blank: there is no start image, and `start` is zeros.
        watcher: callbacks during generation, such as after every forward pass.
        other: whose psi is taken under the memory control other_video.
    """
    forwards = Forwards() if forwards is None else forwards
    dtype = next(denoiser.parameters()).dtype
    start, end = start.to(dtype), None if end is None else end.to(dtype)
    layout = (denoiser.layout if layout is None else layout).for_video(len(known) + num_sections)
    remembers = denoiser.memory is not None
    prompt = _Prompt(conditioning.guided(sampling.guidance_scale), dtype, script, remembers)
    past = denoiser.begin(start, prompt.conditioning, layout=layout, end=end, blank=blank)
    past = past.controlled(sampling.memory_control, None if other is None else other.to(dtype))
    for section in known:
        past = past.after(section.to(dtype))
        prompt.keep(section)
    shape = (*start.shape[:2], layout.section, *start.shape[3:])
    noisy: list[Latents] = []  # the sections of a stage
    for stage in denoiser.schedule.stages(len(known) + num_sections, len(known)):
        past = prompt.turn(past, stage.sections[-1] - len(known))
        if stage.joining is not None:
            noisy.append(_noise(shape, sampling.seed, stage.joining).to(start.device))
        steps = sampling.steps * (sampling.first_times if stage.number == len(known) else 1)
        now = replace(sampling, steps=steps)
        noisy = _denoise(denoiser, past, stage, prompt.conditioning, now, noisy, forwards, watcher)
        if stage.finished is None:
            continue
        clean = noisy.pop(0)
        if not torch.isfinite(clean).all():
            raise FailedError(
                f"section {stage.finished} came out with numbers that are not finite, so the video ends before it; try "
                "--shift, --steps or another precision, or another checkpoint"
            )
        yield clean
        past = past.after(clean.to(dtype))
        prompt.keep(clean)


class _Prompt:
    """The conditioning of the newest section; where a script changes it, the memory is made anew if there is one."""

    def __init__(self, conditioning: Conditioning, dtype: torch.dtype, script: Script | None, remembers: bool):
        self.dtype, self.script, self.remembers = dtype, script, remembers
        self.given = None if script is None else script.conditionings[0]
        self.conditioning = conditioning.to(dtype=dtype)

    def keep(self, section: Latents) -> None:
        """Stores a section for changes to come."""
        if self.script is not None and self.remembers:
            self.script.past.append(section)

    def turn(self, past: Past, number: int) -> Past:
        """The past for section `number`, counted from the first one to make."""
        if self.script is None:
            return past
        given = self.script.conditionings[number]  # asked for once: it may be said at this moment
        if given is self.given:
            return past
        self.given = given
        self.conditioning = self.given.guided(self.conditioning.guidance_scale).to(dtype=self.dtype)
        return past.reconditioned(self.conditioning, self.script.past)


@torch.no_grad()  # here and not on the generator, whose caller decides about gradients between two sections
def _denoise(
    denoiser: Denoiser,
    past: Past,
    stage: Stage,
    conditioning: Conditioning,
    sampling: Sampling,
    noisy: Sequence[Latents],
    forwards: Forwards,
    watcher: Watcher | None,
) -> list[Latents]:
    """The sections of one stage, with a stage's share of the sampler's steps behind them."""
    own, start = next(denoiser.parameters()).dtype, past.history.start

    def of_history() -> Latents:
        return _noise(past.history.recent.shape, sampling.seed, -1 - stage.number).to(past.history.recent)

    @lru_cache(maxsize=1)
    def shown(level: float) -> Context:
        sigma = torch.full((len(start),), level, device=start.device)
        return past.at(sigma, of_history).pack(len(stage.sections))

    def on_context(level: float) -> VelocityFn:
        return guided_velocity(denoiser, shown(level), conditioning, sampling.negative_memory, own)

    context, velocity_fn = shown(0.0), denoiser.schedule.velocity(on_context)
    first = denoiser.backbone.config.first_sigma
    levels = denoiser.schedule.levels(sampling.steps, sampling.shift, stage.ages, first)
    x = torch.cat(list(noisy), 2)
    num_own, steps = prod(denoiser.backbone.grid(x)), len(levels) - 1
    if watcher is not None:
        velocity_fn = Watched(velocity_fn, stage.sections, steps, context, num_own, watcher)
    with cached(denoiser.backbone.blocks, sampling.cache, steps, context.tokens.shape[1] + num_own, forwards):
        x = denoiser.schedule.denoise(sampling.sampler, velocity_fn, x, levels)
    return list(x.chunk(len(noisy), 2))


def _noise(shape: tuple[int, ...], seed: int, number: int) -> Latents:
    """Standard normal noise; the videos of a batch differ, and none depends on how many there are."""
    videos = []
    for i in range(shape[0]):
        generator = torch.Generator().manual_seed(((seed * 1_000_003 + number) * 1_009 + i) % 2**63)
        videos.append(torch.randn(shape[1:], generator=generator))
    return torch.stack(videos)
