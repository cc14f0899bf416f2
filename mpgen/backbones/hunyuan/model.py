"""The diffusion transformer, top to bottom: HunyuanVideo (13B in its released size) with FramePack's additions."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mpgen.attention import Mask
from mpgen.backbones.base import Backbone, Context, Rows, TimeEmbedding
from mpgen.backbones.hunyuan import keymap
from mpgen.backbones.hunyuan.blocks import DoubleStreamBlock, SingleStreamBlock, TokenRefiner
from mpgen.backbones.hunyuan.config import HunyuanConfig
from mpgen.backbones.hunyuan.patches import HistoryEmbed, PatchEmbed, unpatchify
from mpgen.backbones.hunyuan.released import released_card, released_state
from mpgen.backbones.layers import Mlp, Modulation, modulate, sinusoid
from mpgen.backbones.recompute import Block
from mpgen.backbones.rope import flatten_rotation, placeless
from mpgen.conditioning import Conditioning
from mpgen.tensors import Latents, Sigma, Tokens

TIMESTEPS = 1000.0  # the network was trained on 1000 * sigma and 1000 * guidance scale


class _TimeScaleText(nn.Module):
    """Time step, CFG scale and pooled text, added up: the time embedding of every block."""

    def __init__(self, width: int, pooled_width: int):
        super().__init__()
        self.timestep_embedder = Mlp(256, width)
        self.guidance_embedder = Mlp(256, width)
        self.text_embedder = Mlp(pooled_width, width)

    def forward(
        self, timestep: Float[Tensor, "b k"], guidance_scale: Float[Tensor, " b"], pooled: Float[Tensor, "b p"]
    ) -> Float[Tensor, "b k d"]:
        time = self.timestep_embedder(sinusoid(timestep).to(pooled.dtype))
        scale = self.guidance_embedder(sinusoid(guidance_scale).to(pooled.dtype))
        return time + (scale + self.text_embedder(pooled))[:, None]


class _ImageProjection(nn.Module):
    def __init__(self, image_width: int, width: int):
        super().__init__()
        self.up = nn.Linear(image_width, 3 * width)
        self.down = nn.Linear(3 * width, width)

    def forward(self, image: Float[Tensor, "b i f"]) -> Float[Tensor, "b i d"]:
        return self.down(F.silu(self.up(image)))


class Hunyuan(Backbone):
    """HunyuanVideo's transformer with FramePack's embeddings of history and of the start image."""

    head_names = ("norm_out.", "proj_out.")
    additions = ("clean_x_embedder.", "image_projection.")
    lora_targets = (
        "transformer_blocks.*.attn.*",
        "transformer_blocks.*.ff*",
        "single_transformer_blocks.*.attn.*",
        "single_transformer_blocks.*.proj_*",
    )

    def __init__(self, config: HunyuanConfig):
        super().__init__()
        self.config = config
        width, heads = config.width, config.num_attention_heads
        self.x_embedder = PatchEmbed(config.in_channels, width, config.patch)
        self.clean_x_embedder = HistoryEmbed(config.in_channels, width, config.patch)
        self.image_projection = _ImageProjection(config.image_proj_dim, width)
        self.context_embedder = TokenRefiner(
            config.text_embed_dim, width, heads, config.num_refiner_layers, config.refiner_ratio
        )
        self.time_text_embed = _TimeScaleText(width, config.pooled_projection_dim)
        self.transformer_blocks = nn.ModuleList(
            [DoubleStreamBlock(width, heads, config.mlp_ratio) for _ in range(config.num_layers)]
        )
        self.single_transformer_blocks = nn.ModuleList(
            [SingleStreamBlock(width, heads, config.mlp_ratio) for _ in range(config.num_single_layers)]
        )
        self.norm_out = Modulation(width, 2)
        patch_t, patch_y, patch_x = config.patch
        self.proj_out = nn.Linear(width, config.in_channels * patch_t * patch_y * patch_x)

        self._initialise()
        self.clean_x_embedder.initialise_from(self.x_embedder)

    def _initialise(self) -> None:
        """DiT's initial values (arXiv 2212.09748) for training from scratch: every block begins as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for embed in (self.x_embedder.proj, self.clean_x_embedder.proj):
            nn.init.xavier_uniform_(embed.weight.view(embed.out_channels, -1))
            nn.init.zeros_(embed.bias)
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.linear.weight)
        nn.init.zeros_(self.proj_out.weight)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Both kinds, in the order that they run."""
        return (*self.transformer_blocks, *self.single_transformer_blocks)

    @property
    def units(self) -> tuple[nn.Module, ...]:
        return self.context_embedder, self.image_projection, self.time_text_embed

    @property
    def head_modules(self) -> tuple[nn.Module, ...]:
        return self.norm_out, self.proj_out

    def history_kernel(self, factor: int) -> nn.Conv3d:
        return self.clean_x_embedder.kernel(factor)

    def initialise_additions(self) -> None:
        """History embeddings from the patch embedding (FramePack's recipe); image tokens are zero (our choice)."""
        self.clean_x_embedder.initialise_from(self.x_embedder)
        nn.init.xavier_uniform_(self.image_projection.up.weight)
        for zero in (self.image_projection.up.bias, *self.image_projection.down.parameters()):
            nn.init.zeros_(zero)

    def locate(self, name: str, num_rows: Mapping[str, int]) -> dict[str, Rows]:
        return keymap.locate(name, num_rows)

    def origin_layers(self) -> tuple[str, ...]:
        return (*keymap.LAYERS, *keymap.COMFYUI_LAYERS)

    def to_released(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return released_card(self.config), released_state(self.config, self.state_dict())

    def trunk(
        self, noisy: Latents, sigma: Sigma, context: Context, conditioning: Conditioning
    ) -> tuple[Tokens, TimeEmbedding]:
        frames, rows, columns = self.grid(noisy)
        section = self.x_embedder(noisy)
        num_context, num_section = context.tokens.shape[1], section.shape[1]
        own_rotation = flatten_rotation(self.rotation_grid(context.section_indices, rows, columns))
        history = self.spread.split(context.tokens)
        video = torch.cat([history, self.spread.split(section)], 1)
        rotation = torch.cat([self.spread.split(context.rotation), self.spread.split(own_rotation)], 1)

        per_video = sigma if sigma.ndim == 1 else sigma.mean(1)
        scale = torch.full_like(per_video, conditioning.guidance_scale * TIMESTEPS)
        temb = self.time_text_embed(per_video[:, None] * TIMESTEPS, scale, conditioning.pooled)
        if sigma.ndim == 1 and context.sigma is None:
            of_section = of_video = temb
        else:
            per_frame = sigma[:, None].expand(-1, frames) if sigma.ndim == 1 else sigma
            of_frames = self.time_text_embed(per_frame * TIMESTEPS, scale, conditioning.pooled)
            of_section = of_frames.repeat_interleave(rows * columns, 1)
            level = per_video if context.sigma is None else torch.full_like(per_video, context.sigma)
            of_context = self.time_text_embed(level[:, None] * TIMESTEPS, scale, conditioning.pooled)
            of_video = torch.cat([of_context.expand(-1, history.shape[1], -1), self.spread.split(of_section)], 1)

        # Padding that every text has is cropped instead of masked.
        longest = int(conditioning.text_mask.sum(1).max())
        text, text_mask = conditioning.text[:, :longest], conditioning.text_mask[:, :longest]
        refined = self.context_embedder(text, per_video * TIMESTEPS, text_mask)
        condition = torch.cat([self.image_projection(conditioning.image), refined], 1)
        mask = self._key_mask(context.mask, num_section + conditioning.image.shape[1], text_mask)
        mask = self._causal(mask, context.blocks, condition.shape[1])
        attention = self.spread.attention(mask, (num_context, num_section, condition.shape[1]))

        condition = self.spread.split(condition)
        for block in self.transformer_blocks:
            video, condition = block(video, condition, of_video, temb[:, 0], rotation, attention)

        num_video = video.shape[1]
        both = torch.cat([video, condition], 1)
        rotation = torch.cat([rotation, placeless(condition, self.config.head_dim)], 1)
        of_both = of_video
        if of_video.shape[1] > 1:
            of_both = torch.cat([of_video, temb.expand(-1, condition.shape[1], -1)], 1)
        for block in self.single_transformer_blocks:
            both = block(both, of_both, rotation, attention)
        return self.spread.gather(both[:, history.shape[1] : num_video], num_section), of_section

    def head(self, tokens: Tokens, temb: TimeEmbedding, grid: tuple[int, int, int]) -> Latents:
        """The last norm and the output layer: the two layers that stage 2 trains, in the precision of their weights."""
        dtype = self.proj_out.weight.dtype  # also under autocast: rounding here is seen in the video
        with torch.autocast(tokens.device.type, enabled=False):
            # Where only one of the two trains, they are kept in different dtypes.
            modulation = self.norm_out(temb.to(self.norm_out.linear.weight.dtype))
            scale, shift = (part.to(dtype) for part in modulation)
            patches = self.proj_out(modulate(tokens.to(dtype), shift, scale))
        return unpatchify(patches, *grid, self.config.patch)

    @staticmethod
    def _key_mask(context: Bool[Tensor, "b n"], always: int, text: Bool[Tensor, "b l"]) -> Mask:
        """Which tokens may be looked at: `[context | section and image | text]`; None when all may."""
        if bool(context.all()) and bool(text.all()):
            return None
        present = torch.ones(len(context), always, dtype=torch.bool, device=context.device)
        return torch.cat([context, present, text], 1)[:, None, None]

    @staticmethod
    def _causal(mask: Mask, blocks: Int[Tensor, " video"] | None, condition: int) -> Mask:
        """The mask, narrowed to what tokens of a block may look at; so many condition tokens come last."""
        if blocks is None:
            return mask
        blocks = torch.cat([blocks, blocks.new_full((condition,), -1)])
        pairs = (blocks[:, None] >= blocks)[None, None]
        return pairs if mask is None else pairs & mask
