"""The image towers of OpenAI's CLIP (Radford et al. 2021) and LAION's linear aesthetic head on the larger one.

open_clip has the towers; these weights were trained with QuickGELU, so the plain model name gives other features.
"""

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from open_clip.model import QuickGELU
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from mpgen.errors import UserError
from mpgen.evaluation.vbench.networks.attention import attention
from mpgen.evaluation.vbench.networks.loading import Tensors, fill, read_tensors, with_prefix

SIDE_PX = 224


class ClipImage(nn.Module):
    """Projected image embeddings of a square picture.

    Args:
        patch_px: side of a patch.
        width: of a token.
        depth: transformer blocks.
        num_heads: of their attention.
        embedding: width of the projected embedding.
    """

    def __init__(self, patch_px: int, width: int, depth: int, num_heads: int, embedding: int) -> None:
        super().__init__()
        self.visual = VisionTransformer(
            image_size=SIDE_PX,
            patch_size=patch_px,
            width=width,
            layers=depth,
            heads=num_heads,
            mlp_ratio=4.0,
            output_dim=embedding,
            act_layer=QuickGELU,
        )

    @classmethod
    def base_32(cls) -> "ClipImage":
        """ViT-B/32."""
        return cls(patch_px=32, width=768, depth=12, num_heads=12, embedding=512)

    @classmethod
    def large_14(cls) -> "ClipImage":
        """ViT-L/14."""
        return cls(patch_px=14, width=1024, depth=24, num_heads=16, embedding=768)

    def load(self, path: Path) -> None:
        """Takes OpenAI's archive (`ViT-B-32.pt`), open_clip's layout or timm's.

        Raises:
            UserError: when the file does not fit.
        """
        tensors = read_tensors(path)
        own = with_prefix(tensors, "visual.") or from_timm(tensors)
        if not own:
            raise UserError(f"{path} holds no image tower of CLIP: wanted names that begin with visual. or blocks.")
        fill(self.visual, own, path)

    def forward(self, images: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b e"]:
        tower = self.visual
        patches = rearrange(tower.conv1(images), "b d y x -> b (y x) d")
        classes = tower.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
        tokens = tower.ln_pre(torch.cat([classes, patches], 1) + tower.positional_embedding)
        *blocks, last = tower.transformer.resblocks
        for block in blocks:
            tokens = _through(block, tokens)
        return tower.ln_post(_through(last, tokens, 1)[:, 0]) @ tower.proj


def _through(
    block: ResidualAttentionBlock, tokens: Float[Tensor, "b n d"], num_queries: int | None = None
) -> Float[Tensor, "b m d"]:
    """One transformer block: all tokens, or the first `num_queries`."""
    heads = block.attn
    mixed = attention(
        block.ln_1(tokens), heads.in_proj_weight, heads.in_proj_bias, heads.out_proj, heads.num_heads, num_queries
    )
    tokens = tokens[:, :num_queries] + mixed
    return tokens + block.mlp(block.ln_2(tokens))


class AestheticHead(nn.Module):
    """LAION's first predictor, one linear layer: 0 to 10 from a unit-length embedding (VBench's, not the later MLP)."""

    def __init__(self, embedding: int = 768) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, 1)

    def load(self, path: Path) -> None:
        """Takes `sa_0_4_vit_l_14_linear.pth`.

        Raises:
            UserError: when the file does not fit.
        """
        fill(self.linear, read_tensors(path), path)

    def forward(self, embeddings: Float[Tensor, "b e"]) -> Float[Tensor, " b"]:
        return self.linear(F.normalize(embeddings, dim=-1))[:, 0]


_FROM_TIMM = (
    (r"^cls_token$", "class_embedding"),
    (r"^pos_embed$", "positional_embedding"),
    (r"^patch_embed\.proj\.weight$", "conv1.weight"),
    (r"^norm_pre\.", "ln_pre."),
    (r"^norm\.", "ln_post."),
    (r"^head\.weight$", "proj"),
    (r"^blocks\.(\d+)\.norm([12])\.", r"transformer.resblocks.\1.ln_\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"transformer.resblocks.\1.attn.in_proj_"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"transformer.resblocks.\1.attn.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"transformer.resblocks.\1.mlp.c_fc."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"transformer.resblocks.\1.mlp.c_proj."),
)


def from_timm(tensors: Tensors) -> Tensors:
    """timm's names of a tower (`timm/vit_base_patch32_clip_224.openai`) as OpenAI's; nothing where they are others."""
    if "cls_token" not in tensors:
        return {}
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _FROM_TIMM:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    renamed["class_embedding"] = renamed["class_embedding"].flatten()
    renamed["positional_embedding"] = renamed["positional_embedding"][0]
    renamed["proj"] = renamed["proj"].T
    return renamed
