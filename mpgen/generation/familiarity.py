"""Whether a start image is like what a model was trained on, as far as its autoencoder can tell."""

import numpy as np
import torch
from jaxtyping import UInt8

from mpgen.encoders.base import VideoAutoencoder
from mpgen.generation.pipeline import to_clip


@torch.no_grad()
def unfamiliar(vae: VideoAutoencoder, start: UInt8[np.ndarray, "h w 3"], device: torch.device) -> str | None:
    """A line on a start image that the autoencoder cannot even give back; None for others.

    Asked only of an autoencoder that says what is usual for it: released ones know photographs and drawings alike.
    """
    if vae.familiar_db is None:
        return None
    clip = to_clip(start[None]).to(device)
    error = ((vae.decode(vae.encode(clip)).to(clip).clamp(-1, 1) - clip) / 2).square().mean().clamp_min(1e-9)
    found = float(-10 * error.log10())
    if found >= vae.familiar_db:
        return None
    return (
        f"warning: the start image is far from what this model was trained on: its autoencoder gives it back at "
        f"{found:.0f} dB, where {vae.familiar_db:.0f} or more are usual, so the video will hardly look like it"
    )
