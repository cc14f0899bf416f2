"""SemanticPack (paper §4.1.2): a long-term memory of fixed size, psi(n+1) = Squeeze(psi(n), Memorize(x(n))).

Memorize is self-attention inside one window of history, Squeeze one cross-attention with the memory, so the cost is
linear in the length of the video. The paper leaves open the window, depth, width, the number of tokens and how psi
enters the backbone. Our choices: a window is a section (the start image is window 0); the memory is as wide as the
backbone, and psi enters as extra video tokens with the spatial positions of the window's tokens and the time of the
start image (without positions where the memory is made of the conditioning's tokens, as in structures B and C).
Where the backbone has no image features (Wan), the patches of the start image's latents stand in for them.

Initial values fit the backbone: the middle frame of a window is embedded as the start image is, Memorize is the
identity, and Squeeze averages window and memory position by position; in structure A the memory weighs more where the
window looks like the start image. Tokens keep their size on the way to the backbone, so that one that reads its start
image can read such a memory; what is worth keeping is then learned.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.attention import attend
from mpgen.backbones.base import Backbone, BackboneConfig
from mpgen.backbones.layers import FeedForward, SelfAttention
from mpgen.backbones.patches import pad_to_multiple
from mpgen.backbones.rope import flatten_rotation, placeless, rotation_grid
from mpgen.conditioning import Conditioning
from mpgen.memory.base import LongTermMemory, MemoryConfig
from mpgen.memory.structures import Anchor, ConditioningAnchor, Structure, StructureA
from mpgen.memory.windows import WindowEmbedding, all_there
from mpgen.tensors import Latents, MaskedTokens, Still, Tokens, concat

ANCHOR_SIZE = 0.1  # of the conditioning's tokens at first, relative to a linear layer's usual ones
WINDOW_THETA = 256.0  # of the rotary positions inside a window; HunyuanVideo's, whatever the backbone's


@dataclass(frozen=True)
class SemanticPackConfig(MemoryConfig):
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

    def build(self, backbone: BackboneConfig) -> "SemanticPack":
        return SemanticPack(self, backbone)


class WindowPosition(nn.Module):
    """The position of a token in its window, as a vector: waves of its time, row and column, each from 0 to 1.

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


class SemanticPack(LongTermMemory):
    """The paper's long-term memory."""

    def __init__(self, config: SemanticPackConfig, backbone: BackboneConfig):
        super().__init__()
        self.config = config
        self.backbone = backbone
        width, heads = backbone.width, backbone.heads
        self.text_in = nn.Linear(backbone.widths.text, width)
        patch = backbone.widths.latents * math.prod(backbone.patch)
        self.image_in = nn.Linear(backbone.widths.image or patch, width)
        self.window_embed = WindowEmbedding(backbone, config.window_patch)
        self.position = WindowPosition(width)
        self.memorize_layers = nn.ModuleList(
            [MemorizeLayer(width, heads, config.mlp_ratio) for _ in range(config.memorize_layers)]
        )
        self.squeeze = config.structure.layer(width, heads, config.mlp_ratio)
        self.to_tokens = nn.Linear(width, width)

    @torch.no_grad()
    def initialise_from(self, backbone: Backbone) -> None:
        """Embeds windows as the backbone does its start image; if `silent`, all tokens equal an empty history slot."""
        self.window_embed.initialise_from(backbone)
        empty_slot = backbone.history_kernel(4).bias
        for layer in (self.text_in, self.image_in):  # psi begins as the start image
            layer.weight.mul_(ANCHOR_SIZE)
        nn.init.eye_(self.to_tokens.weight).mul_(0.0 if self.config.silent else 1.0)
        self.to_tokens.bias.copy_(empty_slot if self.config.silent else torch.zeros_like(empty_slot))

    def conditioned(self, conditioning: Conditioning, start: Still) -> Conditioning:
        """With the start image, and its latents' patches in place of image features that the backbone has not."""
        conditioning = replace(conditioning, start=start)
        if self.backbone.widths.image is not None:
            return conditioning
        t, y, x = self.backbone.patch
        padded = pad_to_multiple(start, self.backbone.patch)
        patches = rearrange(padded, "b c (t pt) (y py) (x px) -> b (t y x) (c pt py px)", pt=t, py=y, px=x)
        return replace(conditioning, image=patches)

    def memorize(self, window: Latents) -> MaskedTokens:
        """A compact embedding of one window of history."""
        patches = self.window_embed(window)
        b, _, t, y, x = patches.shape
        frames = torch.arange(t, device=window.device).expand(b, t)
        rotation = flatten_rotation(rotation_grid(frames, y, x, self.backbone.rope_axes, theta=WINDOW_THETA))
        tokens = rearrange(patches, "b d t y x -> b (t y x) d") + self.position(t, y, x)
        for layer in self.memorize_layers:
            tokens = layer(tokens, rotation)
        return replace(all_there(tokens), rotation=rotation)

    def seed(self, conditioning: Conditioning, start: Still) -> MaskedTokens:
        """psi after window 0: the anchor (text and image features), squeezed with the start image."""
        first_window, anchor = self.memorize(start), partial(self.anchor, conditioning)
        psi = self.config.structure.seed(anchor(), first_window)
        return self.config.structure.update(self._squeeze(first_window, start), first_window, psi, anchor)

    def update(self, psi: MaskedTokens, section: Latents, conditioning: Conditioning) -> MaskedTokens:
        """psi(n+1) = Squeeze(psi(n), Memorize(x(n)))."""
        return self.updates(psi, (section,), conditioning)[0]

    def updates(self, psi: MaskedTokens, sections: Sequence[Latents], conditioning: Conditioning) -> list[MaskedTokens]:
        """The same for several sections: Memorize, which looks at one window at a time, gets them as one batch.

        A list and not a generator, which would run when layers in shards are no longer whole.
        """
        if not sections:
            return []
        windows, anchor = (
            self.memorize(torch.cat(list(sections))).chunk(len(sections)),
            partial(self.anchor, conditioning),
        )
        squeeze, found = self._squeeze(windows[0], conditioning.start), []
        for window in windows:
            psi = self.config.structure.update(squeeze, window, psi, anchor)
            found.append(psi)
        return found

    def _squeeze(self, window: MaskedTokens, start: Still | None) -> Callable[..., MaskedTokens]:
        """Squeeze for windows like this one; it knows the start image where windows ask."""
        if start is None or self.squeeze.novelty is None:
            return self.squeeze
        with torch.no_grad():
            known = self.memorize(start).tokens
        return partial(self.squeeze, start=known.repeat(1, window.tokens.shape[1] // known.shape[1], 1))

    def anchor(self, conditioning: Conditioning) -> MaskedTokens:
        """Text and image features at the width of the memory, or what the config puts in their stead."""
        image = all_there(self.image_in(conditioning.image))
        text = MaskedTokens(self.text_in(conditioning.text), conditioning.text_mask)
        return self.config.anchor(concat(image, text))

    def tokens(self, psi: MaskedTokens, start: Still) -> MaskedTokens:
        tokens = self.to_tokens(psi.tokens)
        # The conditioning's tokens stand nowhere.
        placed = self.config.structure.tokens_have_positions
        rotation = self.window_embed.at_start(tokens, start) if placed else placeless(tokens, self.backbone.head_dim)
        return MaskedTokens(tokens, psi.mask, rotation)
