"""What all patch embeddings share: padding of latents to whole patches, and the recipe for embeddings of history."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.tensors import Latents


def pad_to_multiple(latents: Latents, kernel: tuple[int, int, int]) -> Float[Tensor, "b c t2 h2 w2"]:
    """Repeats the last frame, row and column until every axis is a multiple of the kernel."""
    t, h, w = latents.shape[-3:]
    return F.pad(latents, (0, -w % kernel[2], 0, -h % kernel[1], 0, -t % kernel[0]), mode="replicate")


@torch.no_grad()
def tile_kernel(source: nn.Conv3d, packed: nn.Conv3d, factor: int) -> None:
    """FramePack's recipe for history packed `factor` times: the patch embedding, tiled and averaged, with its bias."""
    packed.weight.copy_(source.weight.repeat(1, 1, factor, factor, factor) / factor**3)
    packed.bias.copy_(source.bias)
