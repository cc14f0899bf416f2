"""A block of Wan: self-attention over history and section, cross-attention of the section to the text, feed-forward.

Modulation and residuals are in fp32, as released.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.attention import attend
from mpgen.backbones.layers import FeedForward, RMSNorm, split_heads
from mpgen.backbones.recompute import Block
from mpgen.backbones.rope import rotate
from mpgen.backbones.spread import Attend
from mpgen.backbones.wan.config import EPS
from mpgen.tensors import Tokens


class Once:
    """A value that is made when it is first asked for, and kept."""

    def __init__(self):
        self._made: Any = None

    def __call__(self, make: Callable[[], Any]) -> Any:
        if self._made is None:
            self._made = make()
        return self._made


def normed(x: Tokens, weight: Tensor | None = None, bias: Tensor | None = None) -> Float[Tensor, "b n d"]:
    """LayerNorm in fp32."""
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x.float(), x.shape[-1:], weight, bias, EPS)


def modulated(x: Tokens, shift: Float[Tensor, "b #n d"], scale: Float[Tensor, "b #n d"]) -> Tokens:
    """LayerNorm without weights, then scale and shift; in fp32, given back in the dtype of `x`."""
    return torch.addcmul(shift, normed(x), 1 + scale).to(x.dtype)


def gated(x: Tokens, gate: Float[Tensor, "b #n d"], added: Tokens) -> Tokens:
    """A residual with a gate; in fp32, given back in the dtype of `x`."""
    return torch.addcmul(x.float(), gate, added.float()).to(x.dtype)


class Attention(nn.Module):
    """Linear layers and QK-norm, which here is over all heads together."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.norm_q = RMSNorm(width, EPS)
        self.norm_k = RMSNorm(width, EPS)

    def queries(self, x: Tokens) -> Float[Tensor, "b h n e"]:
        return split_heads(self.norm_q(self.to_q(x)), self.heads)

    def keys_values(self, x: Tokens) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        return split_heads(self.norm_k(self.to_k(x)), self.heads), split_heads(self.to_v(x), self.heads)


class WanBlock(Block):
    """History and section share all layers; they differ in their modulation, and the text is read by the section."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.attn1 = Attention(width, heads)
        self.attn2 = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.ffn = FeedForward(width, hidden / width, nn.GELU(approximate="tanh"))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, width) / width**0.5)

    def compute(
        self,
        history: Float[Tensor, "b m d"],
        section: Float[Tensor, "b n d"],
        of_history: Float[Tensor, "b 1 6 d"],
        of_section: Float[Tensor, "b #n 6 d"],
        rotation: Float[Tensor, "b m+n r"],
        attention: Attend,
        text: Float[Tensor, "b l d"],
        kept: Once | None,
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b n d"]]:
        """History and section after the block.

        Args:
            history: tokens of the context.
            section: the noisy tokens.
            of_history: the time step's part in the modulation of the history.
            of_section: the same of the section, or of each of its tokens.
            rotation: rotary positions of both.
            attention: of both to both.
            text: what the section reads; unused where `kept` has its keys and values already.
            kept: keeps them, for forwards without a gradient; None to make them anew.
        """
        table = self.scale_shift_table.float()
        history_parts, section_parts = ((table[:, None] + of).unbind(2) for of in (of_history, of_section))
        num_history = history.shape[1]

        inner = torch.cat([modulated(history, *history_parts[:2]), modulated(section, *section_parts[:2])], 1)
        keys, values = self.attn1.keys_values(inner)
        mixed = attention(rotate(self.attn1.queries(inner), rotation), rotate(keys, rotation), values)
        mixed = self.attn1.to_out[0](mixed)
        history = gated(history, history_parts[2], mixed[:, :num_history])
        section = gated(section, section_parts[2], mixed[:, num_history:])

        make = partial(self.attn2.keys_values, text)
        keys, values = make() if kept is None else kept(make)
        asking = normed(section, self.norm2.weight.float(), self.norm2.bias.float()).to(section.dtype)
        section = section + self.attn2.to_out[0](attend(self.attn2.queries(asking), keys, values, None))

        history = gated(history, history_parts[5], self.ffn(modulated(history, *history_parts[3:5])))
        return history, gated(section, section_parts[5], self.ffn(modulated(section, *section_parts[3:5])))
