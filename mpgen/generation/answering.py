"""Questions of the built-in world, answered by a network: those with as much given go through it together."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from jaxtyping import UInt8

from mpgen.denoiser import Denoiser
from mpgen.encoders.base import Encoders
from mpgen.generation.decoding import stream_clips
from mpgen.generation.pipeline import to_clip, to_frames
from mpgen.generation.rollout import Sampling, rollout
from mpgen.world.questions import Question


@torch.no_grad()
def answer(
    denoiser: Denoiser, encoders: Encoders, questions: Sequence[Question], sampling: Sampling
) -> list[UInt8[np.ndarray, "t h w 3"]]:
    """The videos of all questions, their given frames first.

    Args:
        denoiser: in evaluation mode.
        encoders: those that it was trained with.
        questions: of any lengths.
        sampling: how a section is denoised.
    """
    made: dict[int, UInt8[np.ndarray, "t h w 3"]] = {}
    by_length = sorted(range(len(questions)), key=lambda i: (questions[i].given, questions[i].num_asked))
    for _, group in groupby(by_length, key=lambda i: (questions[i].given, questions[i].num_asked)):
        numbers = list(group)
        videos = _together(denoiser, encoders, [questions[i] for i in numbers], sampling)
        made |= dict(zip(numbers, videos, strict=True))
    return [made[i] for i in range(len(questions))]


def _together(
    denoiser: Denoiser, encoders: Encoders, questions: Sequence[Question], sampling: Sampling
) -> list[UInt8[np.ndarray, "t h w 3"]]:
    device = next(denoiser.parameters()).device
    given = torch.cat([to_clip(question.frames[: question.given]) for question in questions]).to(device)
    layout = denoiser.layout
    latents = encoders.vae.encode(given[:, :, :1] if layout.alone else given).float()
    start, known = latents[:, :, :1], latents[:, :, 1:].split(layout.section, 2) if latents.shape[2] > 1 else ()
    if layout.alone and given.shape[2] > 1:
        known = [encoders.vae.encode(part).float() for part in given[:, :, 1:].split(layout.section_pixel_frames, 2)]
    conditioning = encoders.conditioning([question.truth.caption for question in questions], given[:, :, 0]).to(device)
    made = rollout(denoiser, start, conditioning, questions[0].num_asked, sampling, known)
    clips = stream_clips(encoders.vae, known[-1] if known else start, made, layout.alone)
    next(clips)  # of what is given
    new = torch.cat([clip.cpu() for clip in clips], 2)
    return [
        np.concatenate([question.frames[: question.given], to_frames(clip[None])])
        for question, clip in zip(questions, new, strict=True)
    ]
