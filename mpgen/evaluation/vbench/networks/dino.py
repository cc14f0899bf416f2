"""DINO ViT-B/16 (Caron et al. 2021) on pictures of any size, as the authors' code runs it: the class token at the end.

timm has the network; its position embeddings are resampled in another way, which costs 1e-4 of the score, and it
refuses sizes that are no multiple of 16.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from mpgen.evaluation.vbench.networks.attention import attention
from mpgen.evaluation.vbench.networks.loading import fill, read_tensors


class Dino(nn.Module):
    """Class-token features.

    Args:
        width: of a token.
        depth: transformer blocks.
        num_heads: of their attention.
    """

    def __init__(self, width: int = 768, depth: int = 12, num_heads: int = 12) -> None:
        super().__init__()
        self.vit = VisionTransformer(embed_dim=width, depth=depth, num_heads=num_heads, num_classes=0)

    def load(self, path: Path) -> None:
        """Takes `dino_vitbase16_pretrain.pth`.

        Raises:
            UserError: when the file does not fit.
        """
        fill(self.vit, read_tensors(path), path)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        patches = self.vit.patch_embed.proj(images)  # rows and columns beyond a multiple of 16 are left out
        rows, columns = patches.shape[2:]
        classes = self.vit.cls_token.expand(len(images), -1, -1)
        tokens = torch.cat([classes, rearrange(patches, "b d y x -> b (y x) d")], 1)
        tokens = tokens + self._positions(rows, columns)
        *blocks, last = self.vit.blocks
        for block in blocks:
            tokens = _through(block, tokens)
        return self.vit.norm(_through(last, tokens, 1)[:, 0])

    def _positions(self, rows: int, columns: int) -> Float[Tensor, "1 n d"]:
        embedding = self.vit.pos_embed
        side_rows, side_columns = self.vit.patch_embed.grid_size
        if (rows, columns) == (side_rows, side_columns):
            return embedding
        grid = rearrange(embedding[:, 1:], "1 (y x) d -> 1 d y x", y=side_rows)
        # The authors' code adds 0.1 against rounding and hands over the factors, not the size: other sample points.
        factors = ((rows + 0.1) / side_rows, (columns + 0.1) / side_columns)
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
        return torch.cat([embedding[:, :1], rearrange(grid, "1 d y x -> 1 (y x) d")], 1)


def _through(block: Block, tokens: Float[Tensor, "b n d"], num_queries: int | None = None) -> Float[Tensor, "b m d"]:
    """One transformer block: all tokens, or the first `num_queries`."""
    heads = block.attn
    mixed = attention(block.norm1(tokens), heads.qkv.weight, heads.qkv.bias, heads.proj, heads.num_heads, num_queries)
    tokens = tokens[:, :num_queries] + mixed
    return tokens + block.mlp(block.norm2(tokens))
