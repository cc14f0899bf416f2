"""All-pairs correlation of two feature maps and its look-up around moving points, as RAFT and AMT have it."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mpgen.products import all_pairs

# Of a picture, with features at an eighth of its size and four levels: below, the coarsest level is one pixel wide, and
# the networks divide by zero, in VBench too.
SMALLEST_PX = 128


def pixel_grid(like: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 2 y x"]:
    """The place of every pixel, column first, in float32."""
    batch, _, rows, columns = like.shape
    y, x = torch.meshgrid(
        torch.arange(rows, device=like.device, dtype=torch.float32),
        torch.arange(columns, device=like.device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([x, y]).expand(batch, -1, -1, -1)


class Pyramid:
    """Correlation of every pixel with all pixels of another map, the latter at `levels` sizes that halve.

    Args:
        features: one vector a pixel.
        others: likewise.
        levels: how many sizes.
        radius: pixels of each size that a look-up reaches to each side.
    """

    def __init__(
        self, features: Float[Tensor, "b c y x"], others: Float[Tensor, "b c y x"], levels: int, radius: int
    ) -> None:
        channels = features.shape[1]
        rows = rearrange(features, "b c y x -> b (y x) c") / channels**0.5
        self.volumes = []
        for level in range(levels):
            # A mean of products is a product with a mean: smaller than the mean of all pairs.
            smaller = F.avg_pool2d(others, 2**level)
            volume = all_pairs(rows, rearrange(smaller, "b c y x -> b (y x) c")).float()
            self.volumes.append(volume.view(-1, 1, *smaller.shape[2:]))
        self.radius = radius

    def __call__(self, places: Float[Tensor, "b 2 y x"]) -> Float[Tensor, "b k y x"]:
        """The correlations around `places`, one for every pixel, in all sizes; beyond the map they are zero."""
        batch, _, rows, columns = places.shape
        centre = rearrange(places, "b two y x -> (b y x) 1 1 two")
        steps = torch.arange(-self.radius, self.radius + 1, device=places.device, dtype=torch.float32)
        # Rows of the window are steps in x: so the networks were trained.
        window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)
        found = []
        for volume in self.volumes:
            last = centre.new_tensor([volume.shape[3] - 1, volume.shape[2] - 1])
            found.append(F.grid_sample(volume, 2 * (centre + window) / last - 1, align_corners=True).flatten(1))
            centre = centre / 2
        return rearrange(torch.cat(found, 1), "(b y x) k -> b k y x", b=batch, y=rows, x=columns)
