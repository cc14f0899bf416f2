"""A window of history as tokens of the backbone's own space, and where they stand: what memories are made from.

A window is a section, or the start image as window 0. It is embedded at first as the backbone embeds its history, and
tokens of a memory stand where what they show stood, so a backbone that reads the one can read the other (our choice).
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from mpgen.backbones.base import Backbone, BackboneConfig
from mpgen.backbones.patches import pad_to_multiple
from mpgen.backbones.rope import flatten_rotation, rotation_grid
from mpgen.errors import UserError
from mpgen.tensors import Latents, MaskedTokens, Rotation, Still, Tokens


class WindowEmbedding(nn.Conv3d):
    """Embeds `patch` latent frames, rows and columns of a window as one token.

    Raises:
        UserError: a patch that is not made of whole ones of the backbone.
    """

    def __init__(self, backbone: BackboneConfig, patch: tuple[int, int, int]):
        if any(side < 1 or side % unit for side, unit in zip(patch, backbone.patch, strict=True)):
            own = list(backbone.patch)
            raise UserError(f"memory.window_patch {list(patch)}: wanted multiples of the backbone's patch {own}")
        super().__init__(backbone.widths.latents, backbone.width, patch, patch)
        self.backbone = backbone

    @torch.no_grad()
    def initialise_from(self, backbone: Backbone) -> None:
        """Embeds windows as the backbone embeds its start image.

        Of a window's frames the middle one counts at first: their mean would mix what a frame shows with what covers it
        in the next.
        """
        kernel = backbone.history_kernel(1)
        frames, *tiles = [side // own for side, own in zip(self.kernel_size, kernel.kernel_size, strict=True)]
        middle = frames // 2 * kernel.kernel_size[0]
        self.weight.zero_()
        self.weight[:, :, middle : middle + kernel.kernel_size[0]] = kernel.weight.repeat(1, 1, 1, *tiles) / math.prod(
            tiles
        )
        self.bias.copy_(kernel.bias)

    def forward(self, window: Latents) -> Tensor:
        """`[b, d, t, y, x]`; edges are replicated up to whole patches."""
        return super().forward(pad_to_multiple(window, self.kernel_size))

    def tokens(self, window: Latents) -> Tokens:
        """The same in the order of time, then rows and columns."""
        return rearrange(self(window), "b d t y x -> b (t y x) d")

    def grid(self, like: Latents) -> tuple[int, int]:
        """Rows and columns of tokens in a picture of this size."""
        rows, columns = (-(-size // side) for size, side in zip(like.shape[3:], self.kernel_size[1:], strict=True))
        return rows, columns

    def positions(self, start: Still, times: Tensor) -> Rotation:
        """The middle of what each token covers, at these times.

        Args:
            start: latents of the size of the picture.
            times: latent frame index of each time step of tokens, `[b, steps]`; 0 is the start image's.
        """
        sizes = self.backbone
        rows, columns = (
            (torch.arange(number, device=start.device) + 0.5) * side / patch - 0.5
            for number, side, patch in zip(self.grid(start), self.kernel_size[1:], sizes.patch[1:], strict=True)
        )
        return flatten_rotation(rotation_grid(times, rows, columns, sizes.rope_axes, sizes.theta))

    def at_start(self, tokens: Tokens, start: Still) -> Rotation:
        """Positions at the time of the start image, for tokens of any number of time steps."""
        rows, columns = self.grid(start)
        steps = tokens.shape[1] // (rows * columns)
        return self.positions(start, torch.zeros(len(tokens), steps, dtype=torch.long, device=tokens.device))


def all_there(tokens: Tokens) -> MaskedTokens:
    """Tokens of which none is padding."""
    return MaskedTokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))
