"""Named axes, and the two records that travel between the rooms.

Axis names: `b` batch, `c` channels, `t` latent frames of a section (or pixel frames of a clip), `h w` height and width,
`n` tokens, `d` model width. Shapes are checked in tests only, where `--jaxtyping-packages` switches the checks on.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Clip = Float[Tensor, "b 3 t h w"]  # pixels in [-1, 1]
Latents = Float[Tensor, "b c t h w"]
Still = Float[Tensor, "b c 1 h w"]  # latents of the start image, encoded alone
Sigma = (
    Float[Tensor, " b"] | Float[Tensor, "b t"]
)  # noise level in [0, 1], 1 is pure noise; per video or per latent frame
FrameIndices = Int[Tensor, "b t"]
Tokens = Float[Tensor, "b n d"]
Rotation = Float[Tensor, "b n r"]  # a head's cosines, then its sines, one of each for two adjacent channels


@dataclass(frozen=True)
class MaskedTokens:
    """A set of vectors of which some rows are padding.

    Args:
        tokens: the vectors.
        mask: true where `tokens` holds one.
        rotation: rotary position of each; None if they have none, like words.
    """

    tokens: Tokens
    mask: Bool[Tensor, "b n"]
    rotation: Rotation | None = None

    def detach(self) -> "MaskedTokens":
        return replace(self, tokens=self.tokens.detach())

    def chunk(self, number: int) -> list["MaskedTokens"]:
        """As many batches, equal in size, in order."""
        rotations = (None,) * number if self.rotation is None else self.rotation.chunk(number)
        parts = zip(self.tokens.chunk(number), self.mask.chunk(number), rotations, strict=True)
        return [MaskedTokens(*part) for part in parts]


def concat(*parts: MaskedTokens) -> MaskedTokens:
    """The parts joined along the token axis; they have positions if all of the parts have."""
    rotations = [p.rotation for p in parts]
    return MaskedTokens(
        torch.cat([p.tokens for p in parts], 1),
        torch.cat([p.mask for p in parts], 1),
        None if any(rotation is None for rotation in rotations) else torch.cat(rotations, 1),
    )
