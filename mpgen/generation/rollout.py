"""Sections one after another, as latents. Constant memory: what is yielded is forgotten but for history and memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from mpgen.denoiser import Denoiser
from mpgen.dit.model import Context
from mpgen.flow import sigma_schedule
from mpgen.memorypack.framepack import History
from mpgen.memorypack.semanticpack import Memory
from mpgen.sampling import Sampler
from mpgen.tensors import Guidance, Latents, Still


@dataclass(frozen=True)
class Sampling:
    """How a section is denoised.

    Args:
        sampler: `euler` or `unipc`.
        steps: forwards a section.
        shift: of the noise levels towards 1; FramePack's value at 480p is 7.
        guidance_scale: the distilled guidance that the backbone is told.
        seed: of the noise; section k of a video always begins from the same noise.
    """

    sampler: Sampler
    steps: int
    shift: float
    guidance_scale: float
    seed: int


def rollout(
    denoiser: Denoiser,
    start: Still,
    guidance: Guidance,
    num_sections: int,
    sampling: Sampling,
    known: Sequence[Latents] = (),
) -> Iterator[Latents]:
    """The sections of a video, each as soon as it is done.

    Args:
        denoiser: the network, in evaluation mode.
        start: the start image's latents.
        guidance: text and image features.
        num_sections: sections to make, after the known ones.
        sampling: how.
        known: true sections that come first, to continue a given video; they are remembered, not yielded.
    """
    history, memory = denoiser.begin(start, guidance)
    for section in known:
        history, memory = denoiser.remember(history, memory, section)
    shape = (*start.shape[:2], denoiser.layout.section, *start.shape[3:])
    for number in range(len(known), len(known) + num_sections):
        section = _sample(denoiser, history, memory, guidance, sampling, _noise(shape, sampling.seed, number).to(start))
        yield section
        history, memory = denoiser.remember(history, memory, section)


@torch.no_grad()  # here and not on the generator, whose caller decides about gradients between two sections
def _sample(
    denoiser: Denoiser, history: History, memory: Memory | None, guidance: Guidance, sampling: Sampling, noise: Latents
) -> Latents:
    velocity_fn = _Velocity(denoiser, denoiser.pack(history, memory), guidance, sampling.guidance_scale)
    return sampling.sampler(velocity_fn, noise, sigma_schedule(sampling.steps, sampling.shift))


@dataclass(frozen=True)
class _Velocity:
    """The network on one section's context, as a sampler wants it."""

    denoiser: Denoiser
    context: Context
    guidance: Guidance
    guidance_scale: float

    def __call__(self, x: Latents, sigma: float) -> Latents:
        levels = x.new_full((len(x),), sigma)
        return self.denoiser(x, levels, self.context, self.guidance, self.guidance_scale).float()


def _noise(shape: tuple[int, ...], seed: int, number: int) -> Latents:
    """Standard normal noise; the videos of a batch differ, and none depends on how many there are."""
    videos = []
    for i in range(shape[0]):
        generator = torch.Generator().manual_seed(((seed * 1_000_003 + number) * 1_009 + i) % 2**63)
        videos.append(torch.randn(shape[1:], generator=generator))
    return torch.stack(videos)
