"""What a structure of SemanticPack changes its memory with: Squeeze, and layers in its place.

All are called with a query and a key and value, and give tokens where those of the query are.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.attention import attend
from mpgen.backbones.layers import FeedForward, split_heads
from mpgen.backbones.rope import rotate
from mpgen.tensors import MaskedTokens, Tokens

NOVELTY = 8.0, 0.4  # logits a unit of difference, and the difference (in variances of a token) that divides


class Squeeze(nn.Module):
    """Cross-attention in Wan's manner, a gate between what asks and what is read, then feed-forward.

    It begins as an average: tokens look at their own place, values pass as they are, and a gate, the same in every
    channel, chooses between memory and window (the gate is our addition). Where windows ask, it keeps the memory at a
    place that looks like the start image, which is always in the context, and takes the window where it looks
    different; `novelty` is how sharply, and from what difference on. Else it keeps `KEPT` of the memory. No token
    becomes larger than the largest of those that it is made from, so psi keeps its size however long the video.

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
        self.novelty = None if memory_asks else nn.Parameter(torch.tensor(NOVELTY))
        self._initialise_as_average(1 - self.KEPT if memory_asks else 0.5)

    @torch.no_grad()
    def _initialise_as_average(self, read: float) -> None:
        for layer in (self.to_q, self.to_k):
            layer.weight.mul_(0.2)
            layer.bias.fill_(self.SHARPNESS)
        nn.init.orthogonal_(self.to_v.weight)
        self.to_out.weight.copy_(self.to_v.weight.T)
        for zero in (self.to_v.bias, self.to_out.bias, self.gate.weight, *self.ff.net[2].parameters()):
            zero.zero_()
        self.gate.bias.fill_(math.log(read / (1 - read)))

    def forward(self, query: MaskedTokens, key_value: MaskedTokens, start: Tokens | None = None) -> MaskedTokens:
        """What asks, with what it read of the other.

        Args:
            query: what asks.
            key_value: what is read.
            start: the start image's tokens where those of `query` are; None where they stand for no places.
        """
        asking, source = self.norm_query(query.tokens), self.norm_memory(key_value.tokens)
        q, k, v = (
            split_heads(layer(x), self.heads)
            for layer, x in ((self.to_q, asking), (self.to_k, source), (self.to_v, key_value.tokens))
        )
        if query.rotation is not None and key_value.rotation is not None:
            q, k = rotate(q, query.rotation), rotate(k, key_value.rotation)
        read = self.to_out(attend(q, k, v, key_value.mask[:, None, None]))
        gate = self.gate(torch.cat([asking, self.norm_memory(read)], -1))
        if start is not None and self.novelty is not None:
            gate = gate + _shown_by(start, query.tokens, self.novelty)
        x = torch.lerp(query.tokens, read, gate.sigmoid())
        return replace(query, tokens=_no_larger(x + self.ff(self.norm2(x)), query, key_value))


class ForgetfulSqueeze(Squeeze):
    """Squeeze of a memory that a learned gate, channel by channel, first takes towards an empty token.

    It begins by keeping nearly all of it: 0.993 at each window, so that 0.8 is left after thirty.
    """

    KEEPING = 5.0  # logits

    def __init__(self, width: int, heads: int, mlp_ratio: float, memory_asks: bool):
        super().__init__(width, heads, mlp_ratio, memory_asks)
        self.keep = nn.Linear(width, width)
        self.empty = nn.Parameter(torch.zeros(width))
        nn.init.zeros_(self.keep.weight)
        nn.init.constant_(self.keep.bias, self.KEEPING)

    def forward(self, query: MaskedTokens, key_value: MaskedTokens, start: Tokens | None = None) -> MaskedTokens:
        kept = self.keep(self.norm_memory(key_value.tokens)).sigmoid()
        left = torch.lerp(self.empty.to(kept).expand_as(kept), key_value.tokens, kept)
        return super().forward(query, replace(key_value, tokens=left), start)


class GatedCell(nn.Module):
    """A gated recurrent unit (arXiv 1406.1078) at each place: window and memory must have their tokens at the same.

    The candidate is not squashed, and is the window itself at first, so tokens stay in the space that the backbone
    reads; the update gate begins as Squeeze's does, with what the start image does not show (our choices).

    Args:
        width: of the model.
        mlp_ratio: hidden width of the feed-forward layer, in widths of the model.
    """

    def __init__(self, width: int, mlp_ratio: float):
        super().__init__()
        self.norm_window = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width)
        self.gate = nn.Linear(2 * width, width)
        self.reset = nn.Linear(2 * width, width)
        hidden = int(mlp_ratio * width)
        self.candidate = nn.Sequential(nn.Linear(2 * width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
        self.novelty = nn.Parameter(torch.tensor(NOVELTY))
        for zero in (*self.gate.parameters(), *self.candidate[2].parameters()):
            nn.init.zeros_(zero)

    def forward(self, query: MaskedTokens, key_value: MaskedTokens, start: Tokens | None = None) -> MaskedTokens:
        """The memory after a window.

        Args:
            query: the window.
            key_value: the memory.
            start: the start image's tokens where those of the window are.
        """
        window, memory = self.norm_window(query.tokens), self.norm_memory(key_value.tokens)
        both = torch.cat([window, memory], -1)
        gate = self.gate(both)
        if start is not None:
            gate = gate + _shown_by(start, query.tokens, self.novelty)
        recalled = self.reset(both).sigmoid() * memory
        candidate = query.tokens + self.candidate(torch.cat([window, recalled], -1))
        tokens = torch.lerp(candidate, key_value.tokens, gate.sigmoid())
        return replace(query, tokens=_no_larger(tokens, query, key_value))


def _shown_by(start: Tokens, window: Tokens, novelty: Float[Tensor, " 2"]) -> Float[Tensor, "b n 1"]:
    """Logits of keeping the memory: large where the window looks like the start image, which is always in sight."""
    size = start.shape[-1:]
    apart = (F.layer_norm(window, size) - F.layer_norm(start, size)).square().mean(-1, keepdim=True)
    return novelty[0] * (novelty[1] - apart)


def _no_larger(tokens: Tokens, *sources: MaskedTokens) -> Tokens:
    """Tokens whose RMS is above that of the largest token of the sources, scaled down to it."""
    sizes = [(source.tokens.square().mean(-1) * source.mask).amax(1) for source in sources]
    largest = torch.stack(sizes).amax(0)[:, None, None]
    return tokens * (largest / tokens.square().mean(-1, keepdim=True).clamp(min=1e-12)).clamp(max=1).sqrt()
