"""The diffusion transformer, top to bottom: HunyuanVideo (13B in its released size) with FramePack's additions.

`trunk` runs everything up to the last norm and `head` the rest, because stage 2 (paper §6.4) trains the head alone and
then needs no gradient in the trunk. Sizes and names are those of the released FramePack checkpoints.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mpgen.backbones.hunyuan.blocks import DoubleStreamBlock, Mask, SingleStreamBlock, TokenRefiner
from mpgen.backbones.hunyuan.patches import HistoryEmbed, PatchEmbed, unpatchify
from mpgen.backbones.layers import Mlp, Modulation, modulate, sinusoid
from mpgen.backbones.recompute import Block
from mpgen.backbones.rope import flatten_rotation, no_rotation, rotation_grid
from mpgen.conditioning import Conditioning
from mpgen.tensors import FrameIndices, Latents, Rotation, Sigma, Tokens

TIMESTEPS = 1000.0  # the network was trained on 1000 * sigma and 1000 * guidance scale


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of the transformer; the fields and defaults are those of the released FramePack `config.json` (13B).

    Args:
        in_channels: latent channels.
        num_attention_heads: heads; the width of the model is heads times `attention_head_dim`.
        attention_head_dim: width of a head; the sum of `rope_axes_dim`.
        num_layers: double-stream blocks.
        num_single_layers: single-stream blocks.
        num_refiner_layers: blocks of the text token refiner.
        mlp_ratio: hidden width of the feed-forward layers, in widths of the model.
        patch_size: rows and columns of latents in a token.
        patch_size_t: latent frames in a token.
        text_embed_dim: width of the text tokens.
        pooled_projection_dim: width of the vector for the whole text.
        image_proj_dim: width of the image tokens.
        rope_theta: base of the rotary frequencies.
        rope_axes_dim: channels of a head that turn with time, row and column; each even.
        refiner_mlp_ratio: the same as `mlp_ratio` for the text token refiner; equal to it if None. In released weights
            4, whatever `mlp_ratio` is.
    """

    in_channels: int = 16
    num_attention_heads: int = 24
    attention_head_dim: int = 128
    num_layers: int = 20
    num_single_layers: int = 40
    num_refiner_layers: int = 2
    mlp_ratio: float = 4.0
    patch_size: int = 2
    patch_size_t: int = 1
    text_embed_dim: int = 4096
    pooled_projection_dim: int = 768
    image_proj_dim: int = 1152
    rope_theta: float = 256.0
    rope_axes_dim: tuple[int, int, int] = (16, 56, 56)
    refiner_mlp_ratio: float | None = None

    def __post_init__(self):
        if self.patch_size_t != 1:
            raise ValueError(f"patch_size_t {self.patch_size_t}: wanted 1, every latent frame has its own index")
        if sum(self.rope_axes_dim) != self.attention_head_dim or any(d % 2 for d in self.rope_axes_dim):
            raise ValueError(
                f"rope_axes_dim {self.rope_axes_dim}: wanted three even numbers that add up to "
                f"attention_head_dim {self.attention_head_dim}"
            )

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def patch(self) -> tuple[int, int, int]:
        return self.patch_size_t, self.patch_size, self.patch_size


@dataclass(frozen=True)
class Context:
    """What a section sees of the sections before it, as tokens that stand before its own.

    Args:
        tokens: embedded history and memory.
        rotation: where each stands.
        mask: true where there is a token.
        section_indices: latent frame index of every frame of the section itself.
        sigma: noise level that these tokens are modulated with; the section's own if None, as released.
        blocks: a number for each of these tokens and then for each of the section's: none sees a token of a higher
            number, and the condition (text, image) sees itself alone. All see all if None.
    """

    tokens: Tokens
    rotation: Rotation
    mask: Bool[Tensor, "b n"]
    section_indices: FrameIndices
    sigma: float | None = None
    blocks: Int[Tensor, " video"] | None = None


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


class DiT(nn.Module):
    """Predicts the velocity of one section, given the tokens of its context."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        width, heads = config.width, config.num_attention_heads
        self.x_embedder = PatchEmbed(config.in_channels, width, config.patch)
        self.clean_x_embedder = HistoryEmbed(config.in_channels, width, config.patch)
        self.image_projection = _ImageProjection(config.image_proj_dim, width)
        refiner_ratio = config.mlp_ratio if config.refiner_mlp_ratio is None else config.refiner_mlp_ratio
        self.context_embedder = TokenRefiner(
            config.text_embed_dim, width, heads, config.num_refiner_layers, refiner_ratio
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

    def rotation_grid(self, indices: FrameIndices, rows: int, columns: int) -> Float[Tensor, "b r t y x"]:
        """Rotations of a patch grid whose frames stand at `indices`."""
        return rotation_grid(indices, rows, columns, self.config.rope_axes_dim, self.config.rope_theta)

    def grid(self, latents: Latents) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens that `latents` make."""
        return tuple(size // patch for size, patch in zip(latents.shape[2:], self.config.patch, strict=True))

    def trunk(
        self,
        noisy: Latents,
        sigma: Sigma,
        context: Context,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> tuple[Tokens, Float[Tensor, "b k d"]]:
        """Everything before the last norm: the section's own tokens, and their temb.

        Args:
            noisy: the section at `sigma`.
            sigma: noise level of each video, or of each of its latent frames.
            context: from `Denoiser.pack`.
            conditioning: text and image features.
            guidance_scale: the distilled CFG scale that the backbone takes as an input.
        """
        frames, rows, columns = self.grid(noisy)
        video = torch.cat([context.tokens, self.x_embedder(noisy)], 1)
        own_rotation = flatten_rotation(self.rotation_grid(context.section_indices, rows, columns))
        rotation = torch.cat([context.rotation, own_rotation], 1)

        per_video = sigma if sigma.ndim == 1 else sigma.mean(1)
        scale = torch.full_like(per_video, guidance_scale * TIMESTEPS)
        temb = self.time_text_embed(per_video[:, None] * TIMESTEPS, scale, conditioning.pooled)
        if sigma.ndim == 1 and context.sigma is None:
            of_section = of_video = temb
        else:
            per_frame = sigma[:, None].expand(-1, frames) if sigma.ndim == 1 else sigma
            of_frames = self.time_text_embed(per_frame * TIMESTEPS, scale, conditioning.pooled)
            of_section = of_frames.repeat_interleave(rows * columns, 1)
            level = per_video if context.sigma is None else torch.full_like(per_video, context.sigma)
            of_context = self.time_text_embed(level[:, None] * TIMESTEPS, scale, conditioning.pooled)
            of_video = torch.cat([of_context.expand(-1, context.tokens.shape[1], -1), of_section], 1)

        # Padding that every text has is left out instead of masked.
        longest = int(conditioning.text_mask.sum(1).max())
        text, text_mask = conditioning.text[:, :longest], conditioning.text_mask[:, :longest]
        refined = self.context_embedder(text, per_video * TIMESTEPS, text_mask)
        condition = torch.cat([self.image_projection(conditioning.image), refined], 1)
        mask = self._key_mask(context.mask, len(own_rotation[0]) + conditioning.image.shape[1], text_mask)
        mask = self._causal(mask, context.blocks, condition.shape[1])

        for block in self.transformer_blocks:
            video, condition = block(video, condition, of_video, temb[:, 0], rotation, mask)

        num_video = video.shape[1]
        both = torch.cat([video, condition], 1)
        rotation = torch.cat([rotation, placeless(condition, self.config.attention_head_dim)], 1)
        of_both = of_video
        if of_video.shape[1] > 1:
            of_both = torch.cat([of_video, temb.expand(-1, condition.shape[1], -1)], 1)
        for block in self.single_transformer_blocks:
            both = block(both, of_both, rotation, mask)
        return both[:, context.tokens.shape[1] : num_video], of_section

    def head(self, tokens: Tokens, temb: Float[Tensor, "b k d"], grid: tuple[int, int, int]) -> Latents:
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


def placeless(tokens: Tokens, head_dim: int) -> Rotation:
    """The rotation of tokens without a place in time or in the picture."""
    return no_rotation(len(tokens), tokens.shape[1], head_dim, tokens.device)
