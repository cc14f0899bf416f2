"""What a video is conditioned on: text and image features, the same for every section of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the user asked for: text and image features, the same for every section of a video.

    Args:
        text: one vector a text token, right-padded.
        text_mask: true where `text` holds a token; at least one a row.
        pooled: one vector for the whole text.
        image: one vector a patch of the start image.
    """

    text: Float[Tensor, "b l e"]
    text_mask: Bool[Tensor, "b l"]
    pooled: Float[Tensor, "b p"]
    image: Float[Tensor, "b i f"]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Conditioning":
        """On another device, or with features of another dtype; None leaves it as it is."""
        text, pooled, image = (
            features.to(device=device, dtype=dtype) for features in (self.text, self.pooled, self.image)
        )
        return Conditioning(text, self.text_mask.to(device=device), pooled, image)
