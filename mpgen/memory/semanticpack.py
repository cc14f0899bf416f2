"""SemanticPack (paper §4.1.2): a long-term memory of fixed size, psi(n+1) = Squeeze(psi(n), Memorize(x(n))).

Memorize is self-attention inside one window of history, Squeeze one cross-attention with the memory, so the cost is
linear in the length of the video. The paper leaves open the window, depth, width, the number of tokens and how psi
enters the backbone. Our choices: a window is a section (the start image is window 0); the memory is as wide as the
backbone, and psi enters as extra video tokens, which stand in the picture where the window's tokens stood, at the time
of the start image (if the memory is made of the conditioning's tokens, as in structures B and C, they have no place).

It begins in the backbone's own language: windows are embedded as packed history is, Memorize changes nothing, and
Squeeze is a moving average place by place. A backbone that reads history reads such a memory from the first update on;
what is worth keeping is then learned.
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.backbones.hunyuan.model import DiTConfig
from mpgen.backbones.hunyuan.patches import pad_to_multiple
from mpgen.backbones.layers import FeedForward, SelfAttention, attend, split_heads
from mpgen.backbones.rope import flatten_rotation, rotate, rotation_grid
from mpgen.conditioning import Conditioning
from mpgen.errors import UserError
from mpgen.memory.structures import Anchor, ConditioningAnchor, Structure, StructureA
from mpgen.tensors import Latents, MaskedTokens, Still, Tokens, concat


@dataclass(frozen=True)
class SemanticPackConfig:
    """Sizes and wiring of the long-term memory; all of them our choice, see the module's text.

    Args:
        memorize_layers: self-attention layers inside a window.
        window_patch: latent frames, rows and columns in one token of a window; multiples of the backbone's patch.
        mlp_ratio: hidden width of the feed-forward layers, in widths of the model.
        structure: who asks and who answers (Table 3).
        anchor: what the memory starts from (Table 2).
        silent: begin with tokens that all equal an empty history slot instead, whatever psi is: hardly ever read, but
            safe where training sees few sections after the first.
    """

    memorize_layers: int = 2
    window_patch: tuple[int, int, int] = (3, 8, 8)
    mlp_ratio: float = 4.0
    structure: Structure = field(default_factory=StructureA)
    anchor: Anchor = field(default_factory=ConditioningAnchor)
    silent: bool = False


class Place(nn.Module):
    """Where a token of a window stands, as a vector: waves of its time, row and column, each from 0 to 1.

    Rotation says only how far tokens are from each other; what is kept for a section that comes much later has to say
    where it was (our choice). Fractions of the window, so any size of picture will do.
    """

    octaves = 3

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(3 * 2 * self.octaves, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, frames: int, rows: int, columns: int) -> Float[Tensor, "{frames}*{rows}*{columns} d"]:
        device = self.linear.weight.device
        fractions = [(torch.arange(n, device=device) + 0.5) / n for n in (frames, rows, columns)]
        grid = torch.stack(torch.meshgrid(*fractions, indexing="ij"), -1).flatten(0, 2)
        angles = (grid[..., None] * torch.pi * 2.0 ** torch.arange(self.octaves, device=device)).flatten(1)
        return self.linear(torch.cat([angles.sin(), angles.cos()], 1).to(self.linear.weight.dtype))


class MemorizeLayer(nn.Module):
    """Self-attention and feed-forward inside a window; the tokens know how far they are from each other by rotation."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.to_out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.ff = FeedForward(width, mlp_ratio, nn.GELU(approximate="tanh"))
        for layer in (self.to_out, self.ff.net[2]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tokens, rotation: Tensor) -> Tokens:
        x = x + self.to_out(attend(*self.attn.qkv(self.norm1(x), rotation), None))
        return x + self.ff(self.norm2(x))


class Squeeze(nn.Module):
    """Cross-attention in Wan's manner, a gate between what asks and what is read, then feed-forward.

    It begins as a moving average: tokens look at their own place, values pass as they are, and the gate keeps `KEPT` of
    the memory in every channel (the gate is our addition). Both inputs are normalised, so psi keeps its size however
    long the video.

    Args:
        width: of the model.
        heads: attention heads.
        mlp_ratio: hidden width of the feed-forward layer, in widths of the model.
        memory_asks: whether the query is the memory (else it is key and value): says what the gate has to keep.
    """

    KEPT = 0.8
    SHARPNESS = 4.0  # of every channel of queries and keys: the next patch weighs a twentieth or less

    def __init__(self, width: int, heads: int, mlp_ratio: float, memory_asks: bool):
        super().__init__()
        self.heads = heads
        self.norm_query = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width)
        self.norm2 = nn.LayerNorm(width)
        self.ff = FeedForward(width, mlp_ratio, nn.GELU(approximate="tanh"))
        self._begin_as_average(1 - self.KEPT if memory_asks else self.KEPT)

    @torch.no_grad()
    def _begin_as_average(self, read: float) -> None:
        for layer in (self.to_q, self.to_k):
            layer.weight.mul_(0.2)
            layer.bias.fill_(self.SHARPNESS)
        nn.init.orthogonal_(self.to_v.weight)
        self.to_out.weight.copy_(self.to_v.weight.T)
        for zero in (self.to_v.bias, self.to_out.bias, self.gate.weight, *self.ff.net[2].parameters()):
            zero.zero_()
        self.gate.bias.fill_(math.log(read / (1 - read)))

    def forward(self, query: MaskedTokens, key_value: MaskedTokens) -> MaskedTokens:
        asking, source = self.norm_query(query.tokens), self.norm_memory(key_value.tokens)
        q, k, v = (
            split_heads(layer(x), self.heads)
            for layer, x in ((self.to_q, asking), (self.to_k, source), (self.to_v, source))
        )
        if query.places is not None and key_value.places is not None:
            q, k = rotate(q, query.places), rotate(k, key_value.places)
        read = self.to_out(attend(q, k, v, key_value.mask[:, None, None]))
        x = torch.lerp(asking, read, self.gate(torch.cat([asking, read], -1)).sigmoid())
        return replace(query, tokens=x + self.ff(self.norm2(x)))


class SemanticPack(nn.Module):
    """The long-term memory's layers; the memory itself is a value that the caller carries from section to section."""

    def __init__(self, config: SemanticPackConfig, dit: DiTConfig):
        super().__init__()
        check_window_patch(config.window_patch, dit)
        self.config = config
        self.axes = dit.rope_axes_dim
        width, heads = dit.width, dit.num_attention_heads
        self.text_in = nn.Linear(dit.text_embed_dim, width)
        self.image_in = nn.Linear(dit.image_proj_dim, width)
        self.window_embed = nn.Conv3d(dit.in_channels, width, config.window_patch, config.window_patch)
        self.place = Place(width)
        self.memorize_layers = nn.ModuleList(
            [MemorizeLayer(width, heads, config.mlp_ratio) for _ in range(config.memorize_layers)]
        )
        self.squeeze = Squeeze(width, heads, config.mlp_ratio, config.structure.memory_asks)
        self.proj_out = nn.Linear(width, width)

    @torch.no_grad()
    def begin_as_history(self, embed: nn.Conv3d, empty_token: Float[Tensor, " d"]) -> None:
        """Makes windows' tokens what the backbone knows as tokens of packed history.

        Args:
            embed: the backbone's embedding of history.
            empty_token: what it makes of an empty slot; the memory's tokens begin as this if `silent`.
        """
        tiles = [side // own for side, own in zip(self.config.window_patch, embed.kernel_size, strict=True)]
        self.window_embed.weight.copy_(embed.weight.repeat(1, 1, *tiles) / math.prod(tiles))
        self.window_embed.bias.copy_(embed.bias)
        size = embed.weight.square().sum((1, 2, 3, 4)).mean().sqrt()  # of a token's values, where latents are of size 1
        nn.init.eye_(self.proj_out.weight).mul_(0.0 if self.config.silent else size)
        self.proj_out.bias.copy_(empty_token if self.config.silent else torch.zeros_like(empty_token))

    def memorize(self, window: Latents) -> MaskedTokens:
        """A compact embedding of one window of history."""
        patches = self.window_embed(pad_to_multiple(window, self.config.window_patch))
        b, _, t, y, x = patches.shape
        frames = torch.arange(t, device=window.device).expand(b, t)
        rotation = flatten_rotation(rotation_grid(frames, y, x, self.axes, theta=256.0))
        tokens = rearrange(patches, "b d t y x -> b (t y x) d") + self.place(t, y, x)
        for layer in self.memorize_layers:
            tokens = layer(tokens, rotation)
        return MaskedTokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), rotation)

    def seed(self, conditioning: Conditioning, start: Still) -> MaskedTokens:
        """psi after window 0: the anchor (text and image features), squeezed with the start image."""
        first_window = self.memorize(start)
        memory = self.config.structure.seed(self.anchor(conditioning), first_window)
        return self.config.structure.update(self.squeeze, first_window, memory, partial(self.anchor, conditioning))

    def update(self, memory: MaskedTokens, window: Latents, conditioning: Conditioning) -> MaskedTokens:
        """psi(n+1) = Squeeze(psi(n), Memorize(x(n)))."""
        return self.config.structure.update(
            self.squeeze, self.memorize(window), memory, partial(self.anchor, conditioning)
        )

    def anchor(self, conditioning: Conditioning) -> MaskedTokens:
        """Text and image features at the width of the memory, or what the config puts in their place."""
        image = self.image_in(conditioning.image)
        present = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        text = MaskedTokens(self.text_in(conditioning.text), conditioning.text_mask)
        return self.config.anchor(concat(MaskedTokens(image, present), text))

    def as_video_tokens(self, memory: MaskedTokens) -> Tokens:
        """psi at the width of the backbone."""
        return self.proj_out(F.layer_norm(memory.tokens, memory.tokens.shape[-1:]))


def check_window_patch(patch: tuple[int, int, int], dit: DiTConfig) -> None:
    """Raises UserError if a window's tokens are not made of whole tokens of the backbone."""
    own = (dit.patch_size_t, dit.patch_size, dit.patch_size)
    if any(side < 1 or side % unit for side, unit in zip(patch, own, strict=True)):
        raise UserError(f"semantic.window_patch {list(patch)}: wanted multiples of the backbone's patch {list(own)}")


@dataclass(frozen=True)
class Memory:
    """psi as a value, with the latest windows kept apart so that gradients can flow through them.

    `base` has no gradient. Reading replays `windows` on it, so a section's loss reaches Memorize and Squeeze through
    the last `keep` windows and no further; the cost stays linear and every section's graph can be freed. With
    `keep` = 0 (generation) reading replays nothing.

    Args:
        conditioning: the text and image features.
        start: the start image's latents, window 0.
        base: psi before `windows`; None while the start image is still to be replayed.
        windows: the latest sections.
        keep: how many windows to replay; the start image counts as one.
    """

    conditioning: Conditioning
    start: Still
    base: MaskedTokens | None
    windows: tuple[Latents, ...]
    keep: int

    @classmethod
    def begin(cls, pack: SemanticPack, conditioning: Conditioning, start: Still, keep: int) -> "Memory":
        memory = cls(conditioning, start, None, (), keep)
        return memory if keep else memory._folded(pack)

    def read(self, pack: SemanticPack) -> MaskedTokens:
        """psi now."""
        memory = pack.seed(self.conditioning, self.start) if self.base is None else self.base
        for window in self.windows:
            memory = pack.update(memory, window, self.conditioning)
        return memory

    def update(self, pack: SemanticPack, window: Latents) -> "Memory":
        """psi after `window`, which is detached."""
        longer = Memory(self.conditioning, self.start, self.base, (*self.windows, window.detach()), self.keep)
        return longer if longer._replayed <= self.keep else longer._folded(pack)

    @property
    def _replayed(self) -> int:
        return len(self.windows) + (self.base is None)

    @torch.no_grad()
    def _folded(self, pack: SemanticPack) -> "Memory":
        """The oldest window moved into `base`."""
        if self.base is None:
            base, windows = pack.seed(self.conditioning, self.start), self.windows
        else:
            base, windows = pack.update(self.base, self.windows[0], self.conditioning), self.windows[1:]
        return Memory(self.conditioning, self.start, base.detach(), windows, self.keep)
