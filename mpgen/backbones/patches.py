"""Padding of latents to whole patches, which all patch embeddings share."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mpgen.tensors import Latents


def pad_to_multiple(latents: Latents, kernel: tuple[int, int, int]) -> Float[Tensor, "b c t2 h2 w2"]:
    """Repeats the last frame, row and column until every axis is a multiple of the kernel."""
    t, h, w = latents.shape[-3:]
    return F.pad(latents, (0, -w % kernel[2], 0, -h % kernel[1], 0, -t % kernel[0]), mode="replicate")
