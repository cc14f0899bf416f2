"""The diffusion transformer, top to bottom: Wan with Helios' embeddings of packed history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.attention import Mask
from mpgen.backbones.base import Backbone, Context, Rows, TimeEmbedding
from mpgen.backbones.layers import Mlp, sinusoid
from mpgen.backbones.patches import tile_kernel
from mpgen.backbones.rope import flatten_rotation
from mpgen.backbones.wan import keymap
from mpgen.backbones.wan.blocks import Once, WanBlock, modulated
from mpgen.backbones.wan.config import WanConfig
from mpgen.backbones.wan.released import released_card
from mpgen.conditioning import Conditioning
from mpgen.tensors import Latents, Sigma, Tokens

TIMESTEPS = 1000.0  # the network was trained on 1000 * sigma
HISTORY_SIGMA = 0.0  # Helios modulates history as what is clean


class _TextProjection(nn.Module):
    def __init__(self, text_width: int, width: int):
        super().__init__()
        self.linear_1 = nn.Linear(text_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, text: Float[Tensor, "b l e"]) -> Float[Tensor, "b l d"]:
        return self.linear_2(F.gelu(self.linear_1(text), approximate="tanh"))


class _TimeText(nn.Module):
    """Time steps to time embeddings and to the part they have in every block's modulation; and the text's width."""

    def __init__(self, freq_width: int, text_width: int, width: int):
        super().__init__()
        self.freq_width = freq_width
        self.time_embedder = Mlp(freq_width, width)
        self.time_proj = nn.Linear(width, 6 * width)
        self.text_embedder = _TextProjection(text_width, width)

    def forward(
        self, timestep: Float[Tensor, "b k"], text: Float[Tensor, "b l e"] | None
    ) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b k 6 d"], Float[Tensor, "b l d"] | None]:
        with torch.autocast(timestep.device.type, enabled=False):  # bf16 cannot tell neighbouring time steps apart
            temb = self.time_embedder(sinusoid(timestep, self.freq_width).to(self.time_proj.weight.dtype))
            parts = rearrange(self.time_proj(F.silu(temb)).float(), "b k (parts d) -> b k parts d", parts=6)
        return temb.float(), parts, None if text is None else self.text_embedder(text)


class _OutputNorm(nn.Module):
    """The last norm, modulated by a table and the time embedding."""

    def __init__(self, width: int):
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, width) / width**0.5)

    def forward(self, tokens: Tokens, temb: TimeEmbedding) -> Tokens:
        shift, scale = (self.scale_shift_table.float() + temb.float()[:, :, None]).unbind(2)
        return modulated(tokens, shift, scale)


@dataclass(frozen=True)
class _ForSteps(Conditioning):
    """Conditioning for several forwards: the text's keys and values are made by the first one and kept.

    Args:
        kept: of each block.
    """

    kept: tuple[Once, ...] = field(kw_only=True)


class Wan(Backbone):
    """Wan's transformer with Helios' embeddings of history: context as tokens at noise level 0, text beside."""

    head_names = ("norm_out.", "proj_out.")
    additions = ("patch_short.", "patch_mid.", "patch_long.")
    lora_targets = ("blocks.*.attn1.*", "blocks.*.attn2.*", "blocks.*.ffn.*")

    def __init__(self, config: WanConfig):
        super().__init__()
        self.config = config
        width, channels = config.width, config.in_channels
        self.patch_embedding = nn.Conv3d(channels, width, config.patch, config.patch)
        sizes = {factor: tuple(factor * side for side in config.patch) for factor in (1, 2, 4)}
        self.patch_short, self.patch_mid, self.patch_long = (
            nn.Conv3d(channels, width, size, size) for size in sizes.values()
        )
        self.condition_embedder = _TimeText(config.freq_dim, config.text_dim, width)
        self.blocks = nn.ModuleList([WanBlock(width, config.heads, config.ffn_dim) for _ in range(config.num_layers)])
        self.norm_out = _OutputNorm(width)
        self.proj_out = nn.Linear(width, channels * self.patch_embedding.weight[0, 0].numel())

        self._initialise()
        self.initialise_additions()

    def _initialise(self) -> None:
        """DiT's initial values (arXiv 2212.09748) for training from scratch: every block begins as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.view(self.config.width, -1))
        nn.init.zeros_(self.patch_embedding.bias)
        zeros = [self.condition_embedder.time_proj.weight, self.norm_out.scale_shift_table, self.proj_out.weight]
        for block in self.blocks:
            zeros += [block.scale_shift_table, block.attn2.to_out[0].weight]
        for zero in zeros:
            nn.init.zeros_(zero)

    @property
    def blocks(self) -> nn.ModuleList:
        return self._modules["blocks"]  # released under this name, which is also the interface's

    @property
    def units(self) -> tuple[nn.Module, ...]:
        return (self.condition_embedder,)

    @property
    def head_modules(self) -> tuple[nn.Module, ...]:
        return self.norm_out, self.proj_out

    def history_kernel(self, factor: int) -> nn.Conv3d:
        return {1: self.patch_short, 2: self.patch_mid, 4: self.patch_long}[factor]

    def initialise_additions(self) -> None:
        """History embeddings from the patch embedding, by FramePack's recipe, which is Helios' too."""
        for factor in (1, 2, 4):
            tile_kernel(self.patch_embedding, self.history_kernel(factor), factor)

    def locate(self, name: str, num_rows: Mapping[str, int]) -> dict[str, Rows]:
        return keymap.locate(name, num_rows)

    def origin_layers(self) -> tuple[str, ...]:
        return tuple(keymap.LAYERS)

    def to_released(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return released_card(self.config), {name: tensor.contiguous() for name, tensor in self.state_dict().items()}

    def prepared(self, conditioning: Conditioning) -> Conditioning:
        return _ForSteps(**vars(conditioning), kept=tuple(Once() for _ in self.blocks))

    def trunk(
        self, noisy: Latents, sigma: Sigma, context: Context, conditioning: Conditioning
    ) -> tuple[Tokens, TimeEmbedding]:
        _, rows, columns = self.grid(noisy)
        whole = rearrange(self.patch_embedding(noisy), "b d t y x -> b (t y x) d")
        num_context, num_section = context.tokens.shape[1], whole.shape[1]
        own_rotation = flatten_rotation(self.rotation_grid(context.section_indices, rows, columns))
        history, section = self.spread.split(context.tokens), self.spread.split(whole)
        rotation = torch.cat([self.spread.split(context.rotation), self.spread.split(own_rotation)], 1)

        of_section = sigma[:, None] if sigma.ndim == 1 else sigma
        level = torch.full_like(of_section[:, :1], HISTORY_SIGMA if context.sigma is None else context.sigma)
        temb, parts, text = self.condition_embedder(
            torch.cat([level, of_section], 1) * TIMESTEPS, self._released_text(conditioning)
        )
        temb, history_parts, section_parts = temb[:, 1:], parts[:, :1], parts[:, 1:]
        if sigma.ndim == 2:  # a level for each frame, so for each of its tokens
            temb, section_parts = (of.repeat_interleave(rows * columns, 1) for of in (temb, section_parts))
            section_parts = self.spread.split(section_parts)

        attention = self.spread.attention(_mask(context, num_section), (num_context, num_section))
        kept = conditioning.kept if isinstance(conditioning, _ForSteps) else [None] * len(self.blocks)
        for block, own in zip(self.blocks, kept, strict=True):
            history, section = block(history, section, history_parts, section_parts, rotation, attention, text, own)
        return self.spread.gather(section, num_section), temb

    def head(self, tokens: Tokens, temb: TimeEmbedding, grid: tuple[int, int, int]) -> Latents:
        """The last norm and the output layer: the two that stage 2 trains, in the precision of their weights."""
        dtype = self.proj_out.weight.dtype  # also under autocast: rounding here is seen in the video
        with torch.autocast(tokens.device.type, enabled=False):
            patches = self.proj_out(self.norm_out(tokens.to(dtype), temb))
        (t, y, x), (pt, py, px) = grid, self.config.patch
        sizes = {"t": t, "y": y, "x": x, "pt": pt, "py": py, "px": px}
        return rearrange(patches, "b (t y x) (pt py px c) -> b c (t pt) (y py) (x px)", **sizes).contiguous()

    def _released_text(self, conditioning: Conditioning) -> Float[Tensor, "b l e"]:
        """The text at the length of the released weights; zeros where there is no token, which are attended to."""
        text, given = conditioning.text[:, : self.config.text_tokens], conditioning.text.shape[1]
        text = text.masked_fill(~conditioning.text_mask[:, : text.shape[1], None], 0)
        return F.pad(text, (0, 0, 0, max(self.config.text_tokens - given, 0)))


def _mask(context: Context, own: int) -> Mask:
    """Which tokens of history and section (so many) may be attended to; None when all may."""
    if context.blocks is None and bool(context.mask.all()):
        return None
    present = torch.ones(len(context.mask), own, dtype=torch.bool, device=context.mask.device)
    mask = torch.cat([context.mask, present], 1)[:, None, None]
    if context.blocks is None:
        return mask
    pairs = (context.blocks[:, None] >= context.blocks)[None, None]
    return pairs & mask
