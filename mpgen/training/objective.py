"""The training objective, section by section (paper §4.2): plain PyTorch, one loss at a time.

A generator, so that the caller can run the backward pass of a section before the next one begins, and only one
section's graph is alive. Sections come in the layout's order; what each is told of the past is the forcing's choice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpgen.backbones.hunyuan.model import Context
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser
from mpgen.flow import SigmaDraw, add_noise, velocity_target
from mpgen.sections import Layout
from mpgen.tensors import Latents, Still
from mpgen.training.forcing import Forcing, SectionPass
from mpgen.training.noise import KeyedNoise


@dataclass(frozen=True)
class SectionLoss:
    """The loss of one section (or of those that are noisy at the same time), and what is worth logging of it.

    Args:
        number: which section, from 0; which stage, where several are noisy at the same time.
        loss: mean squared error of the velocity, with its graph.
        per_video: the same for each video, without.
        sigma: each video's noise level, the mean of several sections'.
        carried_error: root mean square of carried minus true latents of each video; None where nothing is carried, as
            after the last section.
    """

    number: int
    loss: Float[Tensor, ""]
    per_video: Float[Tensor, " b"]
    sigma: Float[Tensor, " b"]
    carried_error: Float[Tensor, " b"] | None


def section_losses(
    denoiser: Denoiser,
    start: Still,
    latents: Latents,
    conditioning: Conditioning,
    uids: Sequence[str],
    *,
    forcing: Forcing,
    sigma_draw: SigmaDraw,
    noise: KeyedNoise,
    guidance_scale: float,
    memory_windows: int,
    head_only: bool = False,
    num_given: int = 0,
    rehearsal: float = 0.0,
) -> Iterator[SectionLoss]:
    """One loss a section, in the order they are made; run its backward pass before asking for the next.

    Args:
        denoiser: the network.
        start: the start image's latents, encoded alone.
        latents: the latent frames after it, a whole number of sections.
        conditioning: text and image features.
        uids: the videos' names, for the noise.
        forcing: what is carried from section to section.
        sigma_draw: how noise levels are drawn.
        noise: this update's random numbers.
        guidance_scale: the distilled CFG scale the backbone is told; the value of inference (our choice).
        memory_windows: past windows through which the memory gets gradients.
        head_only: only the last norm and the output layer train, so everything before them runs without a graph.
        num_given: the first so many sections (as they are made) have no loss: they are remembered as they are.
        rehearsal: how often one of the sections before is to be drawn from memory instead; see `LongVideoModule`.
    """
    schedule, frames = denoiser.schedule, denoiser.layout.section
    num_sections = latents.shape[2] // frames
    layout = denoiser.layout.for_video(num_sections)
    history, memory = denoiser.begin(start, conditioning, 0 if head_only else memory_windows, layout)
    for number in range(num_given):
        history, memory = denoiser.remember(history, memory, _cut(latents, layout, range(number, number + 1)))
    for stage, among in enumerate(schedule.stages(num_sections - num_given)):
        number, sections = num_given + stage, range(num_given + among.start, num_given + among.stop)
        clean = following = _cut(latents, layout, sections)
        again = torch.zeros(len(clean), dtype=torch.bool, device=clean.device)
        if rehearsal and memory is not None and number and len(sections) == 1:
            clean, again = _rehearse(following, latents, layout, number, rehearsal, noise, uids)
        draw = noise.draw(uids, number, clean)
        sigma = schedule.draw(draw.uniform, [stage - section for section in among], frames, sigma_draw)
        noisy = add_noise(clean, draw.noise, sigma)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not head_only):
            context = denoiser.pack(history.without(again), memory, len(sections))
            tokens, temb = denoiser.trunk(noisy, sigma, context, conditioning, guidance_scale)
        velocity = denoiser.head(tokens, temb, denoiser.grid(noisy)).float()
        per_video = (velocity - velocity_target(clean, draw.noise)).square().mean((1, 2, 3, 4))

        carried_error = None
        if stage + 1 >= schedule.window and sections.start + 1 < num_sections:
            velocity_fn = partial(_velocity, denoiser, context, conditioning, guidance_scale)
            generators = partial(noise.generators, uids, number)
            whole = SectionPass(clean, draw.noise, noisy, sigma, velocity.detach(), velocity_fn, generators)
            carried = _where(again, following, _carry(forcing, whole))[:, :, :frames]  # the oldest, which is done
            carried_error = (carried - following[:, :, :frames]).square().mean((1, 2, 3, 4)).sqrt()
            history, memory = denoiser.remember(history, memory, carried)
        level = sigma.reshape(len(sigma), -1).mean(1)
        yield SectionLoss(number, per_video.mean(), per_video.detach(), level, carried_error)


def _cut(latents: Latents, layout: Layout, sections: range) -> Float[Tensor, "b c cut h w"]:
    """The latent frames of neighbouring sections; `latents` begin after the start image."""
    return latents[:, :, layout.bounds(sections.start)[0] - 1 : layout.bounds(sections.stop - 1)[1] - 1]


def _rehearse(
    following: Float[Tensor, "b c cut h w"],
    latents: Latents,
    layout: Layout,
    number: int,
    share: float,
    noise: KeyedNoise,
    uids: Sequence[str],
) -> tuple[Float[Tensor, "b c cut h w"], Bool[Tensor, " b"]]:
    """What is to be drawn: for `share` of the videos any section before `number`; and for which."""
    again = (noise.uniform(uids, number, "rehearsal") < share).to(latents.device)
    earlier = (noise.uniform(uids, number, "earlier") * number).long().tolist()
    past = torch.cat([_cut(latents[i : i + 1], layout, range(j, j + 1)) for i, j in enumerate(earlier)])
    return _where(again, past, following), again


def _where(videos: Bool[Tensor, " b"], chosen: Latents, otherwise: Latents) -> Latents:
    return torch.where(videos[:, None, None, None, None], chosen, otherwise)


@torch.no_grad()
def _carry(forcing: Forcing, section: SectionPass) -> Latents:
    return forcing.carry(section)


def _velocity(
    denoiser: Denoiser, context: Context, conditioning: Conditioning, guidance_scale: float, x: Latents, sigma: float
) -> Latents:
    return denoiser(x, x.new_full((len(x),), sigma), context, conditioning, guidance_scale).float()
