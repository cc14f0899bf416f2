"""Sections one after another, as latents. Constant memory: what is yielded is forgotten but for history and memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpgen.backbones.hunyuan.model import Context
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser
from mpgen.generation.store import LatentStore
from mpgen.memory.framepack import History
from mpgen.memory.semanticpack import Memory
from mpgen.sampling import Level, Sampler
from mpgen.sections import Layout
from mpgen.tensors import Latents, Still


@dataclass(frozen=True)
class Sampling:
    """How a section is denoised.

    Args:
        sampler: `euler` or `unipc`.
        steps: forwards a section.
        shift: of the noise levels towards 1; FramePack's value at 480p is 7.
        guidance_scale: the distilled CFG scale that the backbone is told.
        seed: of the noise; section k of a video always begins from the same noise.
    """

    sampler: Sampler
    steps: int
    shift: float
    guidance_scale: float
    seed: int


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
    known: Iterable[Latents] = (),
    layout: Layout | None = None,
    end: Still | None = None,
    script: Script | None = None,
) -> Iterator[Latents]:
    """The sections of a video, each as soon as it is done.

    Args:
        denoiser: the network, in evaluation mode.
        start: the start image's latents.
        conditioning: text and image features.
        num_sections: sections to make, after the known ones.
        sampling: how.
        known: true sections that come first, to continue a given video; they are remembered, not yielded.
        layout: in which order the sections are made; that of training if None.
        end: the last image's latents, for layouts that take one.
        script: other conditioning for some sections.
    """
    dtype = next(denoiser.parameters()).dtype
    start, conditioning = start.to(dtype), conditioning.to(dtype=dtype)
    layout = (denoiser.layout if layout is None else layout).for_video(num_sections)
    history, memory = denoiser.begin(start, conditioning, layout=layout, end=None if end is None else end.to(dtype))
    num_known = 0
    for section in known:
        history, memory = denoiser.remember(history, memory, section.to(dtype))
        num_known += 1
        if script is not None:
            script.past.append(section)
    shape = (*start.shape[:2], layout.section, *start.shape[3:])
    prompted = conditioning if script is None else script.conditionings[0]
    noisy: list[Latents] = []  # the sections of a stage
    for stage, sections in enumerate(denoiser.schedule.stages(num_sections)):
        newest = sections.stop - 1
        if script is not None and script.conditionings[newest] is not prompted:
            prompted = script.conditionings[newest]
            conditioning = prompted.to(dtype=dtype)
            memory = None if memory is None else _recall(denoiser, start, conditioning, script.past)
        if newest == stage:
            noisy.append(_noise(shape, sampling.seed, num_known + newest).to(start.device))
        ages = [stage - section for section in sections]
        noisy = _denoise(denoiser, history, memory, conditioning, sampling, ages, noisy)
        if ages[0] + 1 < denoiser.schedule.window:
            continue
        done = noisy.pop(0)
        yield done
        history, memory = denoiser.remember(history, memory, done.to(dtype))
        if script is not None:
            script.past.append(done)


def _recall(denoiser: Denoiser, start: Still, conditioning: Conditioning, past: Iterable[Latents]) -> Memory | None:
    """The memory of what has been, as if the conditioning had always been this one."""
    history, memory = denoiser.begin(start, conditioning)
    for section in past:
        _, memory = denoiser.remember(history, memory, section.to(start))
    return memory


@torch.no_grad()  # here and not on the generator, whose caller decides about gradients between two sections
def _denoise(
    denoiser: Denoiser,
    history: History,
    memory: Memory | None,
    conditioning: Conditioning,
    sampling: Sampling,
    ages: Sequence[int],
    noisy: Sequence[Latents],
) -> list[Latents]:
    """The sections of one stage, a stage's steps farther down."""
    context = denoiser.pack(history, memory, len(ages))
    velocity_fn = _Velocity(denoiser, context, conditioning, sampling.guidance_scale)
    levels = denoiser.schedule.levels(sampling.steps, sampling.shift, ages)
    x = denoiser.schedule.denoise(sampling.sampler, velocity_fn, torch.cat(list(noisy), 2), levels)
    return list(x.chunk(len(ages), 2))


@dataclass(frozen=True)
class _Velocity:
    """The network on one section's context, as a sampler wants it: fp32 outside, the network's own dtype inside."""

    denoiser: Denoiser
    context: Context
    conditioning: Conditioning
    guidance_scale: float

    def __call__(self, x: Latents, sigma: Level) -> Latents:
        levels = sigma.expand(len(x), -1) if isinstance(sigma, Tensor) else x.new_full((len(x),), sigma)
        own = next(self.denoiser.parameters()).dtype
        return self.denoiser(x.to(own), levels, self.context, self.conditioning, self.guidance_scale).float()


def _noise(shape: tuple[int, ...], seed: int, number: int) -> Latents:
    """Standard normal noise; the videos of a batch differ, and none depends on how many there are."""
    videos = []
    for i in range(shape[0]):
        generator = torch.Generator().manual_seed(((seed * 1_000_003 + number) * 1_009 + i) % 2**63)
        videos.append(torch.randn(shape[1:], generator=generator))
    return torch.stack(videos)
