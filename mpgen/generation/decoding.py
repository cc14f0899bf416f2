"""Sections to pixels as they come, with a cross-fade where the autoencoder needs to see what came before."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.encoders.base import VideoAutoencoder
from mpgen.sections import pixel_frames
from mpgen.tensors import Clip, Latents


def stream_clips(
    vae: VideoAutoencoder, start: Float[Tensor, "b c before h w"], sections: Iterable[Latents], alone: bool = False
) -> Iterator[Clip]:
    """What comes first, then the frames of every section; never more than one section and its overlap are kept.

    A causal autoencoder (`overlap_latent_frames` 0) goes on where the last section ended. Others decode a section
    together with the latent frames before it, and the frames decoded twice are cross-faded in a line, as FramePack
    does: decoded alone, a section would lack what stands to its left.

    Args:
        vae: decodes.
        start: the start image's latents, or the end of a given video.
        sections: those after it, in the order of time.
        alone: every section was encoded by itself and begins with a still; nothing is cross-faded.
    """
    overlap = vae.overlap_latent_frames
    if alone:
        yield vae.decode(start)
        yield from map(vae.decode, sections)
        return
    if overlap == 0:
        decode = vae.stream()
        yield decode(start)
        yield from map(decode, sections)
        return
    yield vae.decode(start)

    kept, held = start, None  # latents that the next decoding must see, and frames that are not final yet
    for section in sections:
        whole = torch.cat([kept, section], 2)
        clip = vae.decode(whole)
        new = vae.temporal_stride * section.shape[2]
        clip = clip[:, :, pixel_frames(start.shape[2]) :] if held is None else _cross_fade(held, clip, new)
        kept = whole[:, :, -overlap:]
        # Frames that the next decoding makes again wait for it: 4k - 3 for k latent frames, the first being a still.
        again = min(pixel_frames(kept.shape[2]), clip.shape[2])
        yield clip[:, :, : clip.shape[2] - again]
        held = clip[:, :, clip.shape[2] - again :]
    if held is not None:
        yield held


def _cross_fade(
    held: Float[Tensor, "b 3 held h w"], clip: Float[Tensor, "b 3 decoded h w"], new: int
) -> Float[Tensor, "b 3 held+{new} h w"]:
    """Frames held back, faded into the same frames as decoded again, then the `new` ones."""
    overlap = held.shape[2]
    again = clip[:, :, clip.shape[2] - new - overlap : clip.shape[2] - new]
    weight = torch.linspace(1, 0, overlap, device=clip.device)[:, None, None]
    return torch.cat([weight * held + (1 - weight) * again, clip[:, :, clip.shape[2] - new :]], 2)
