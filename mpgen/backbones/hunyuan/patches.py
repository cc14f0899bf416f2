"""Latents to tokens and back: the patch embedding, and FramePack's kernels for history at 1x, 2x and 4x."""

from einops import rearrange
from torch import nn

from mpgen.backbones.patches import tile_kernel
from mpgen.tensors import Latents, Tokens


class PatchEmbed(nn.Module):
    """One token a patch: a convolution whose stride is its kernel."""

    def __init__(self, in_channels: int, width: int, patch: tuple[int, int, int]):
        super().__init__()
        self.proj = nn.Conv3d(in_channels, width, kernel_size=patch, stride=patch)

    def forward(self, latents: Latents) -> Tokens:
        return rearrange(self.proj(latents), "b d t y x -> b (t y x) d")


class HistoryEmbed(nn.Module):
    """FramePack's addition: clean latents as they are, or packed 2x or 4x along time, rows and columns.

    A latent of zeros, which fills the slots of missing history, becomes the bias; released weights count on it.
    """

    def __init__(self, in_channels: int, width: int, patch: tuple[int, int, int]):
        super().__init__()
        t, y, x = patch
        self.proj = nn.Conv3d(in_channels, width, kernel_size=patch, stride=patch)
        self.proj_2x = nn.Conv3d(in_channels, width, kernel_size=(2 * t, 2 * y, 2 * x), stride=(2 * t, 2 * y, 2 * x))
        self.proj_4x = nn.Conv3d(in_channels, width, kernel_size=(4 * t, 4 * y, 4 * x), stride=(4 * t, 4 * y, 4 * x))

    def kernel(self, factor: int) -> nn.Conv3d:
        """The embedding of latents packed 1, 2 or 4 times along every axis."""
        return {1: self.proj, 2: self.proj_2x, 4: self.proj_4x}[factor]

    def initialise_from(self, embed: PatchEmbed) -> None:
        """FramePack's recipe: every kernel is the patch embedding's, tiled and averaged; the biases are its bias."""
        for factor in (1, 2, 4):
            tile_kernel(embed.proj, self.kernel(factor), factor)


def unpatchify(tokens: Tokens, frames: int, rows: int, columns: int, patch: tuple[int, int, int]) -> Latents:
    """Tokens of (channel, time, row, column) patches back to latents."""
    return rearrange(
        tokens,
        "b (t y x) (c pt py px) -> b c (t pt) (y py) (x px)",
        t=frames, y=rows, x=columns, pt=patch[0], py=patch[1], px=patch[2],
    ).contiguous()  # fmt: skip
