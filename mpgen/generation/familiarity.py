"""Whether a start image is like what a model was trained on, as far as its autoencoder can tell."""

import numpy as np
import torch
from jaxtyping import UInt8

from mpgen.encoders.base import VideoAutoencoder
from mpgen.generation.pipeline import to_clip

# PSNR in dB. The tiny autoencoder gives first frames of its world back at 24 (32 pixels) to 50, photographs at 16 to
# 21; autoencoders of released models give photographs back at 30 and more.
FAMILIAR = 23.0


@torch.no_grad()
def unfamiliar(vae: VideoAutoencoder, start: UInt8[np.ndarray, "h w 3"], device: torch.device) -> str | None:
    """A line on a start image that the autoencoder cannot even give back; None for others."""
    clip = to_clip(start[None]).to(device)
    error = ((vae.decode(vae.encode(clip)).to(clip).clamp(-1, 1) - clip) / 2).square().mean().clamp_min(1e-9)
    found = float(-10 * error.log10())
    if found >= FAMILIAR:
        return None
    return (
        f"warning: the start image is far from what this model was trained on: its autoencoder gives it back at "
        f"{found:.0f} dB, where {FAMILIAR:.0f} or more are usual, so the video will hardly look like it"
    )
