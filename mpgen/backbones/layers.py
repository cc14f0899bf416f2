"""Small parts shared by the blocks: embeddings of scalars, modulated norms, feed-forward, attention."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.backbones.rope import rotate
from mpgen.tensors import Rotation, Tokens

# One temb vector a video, or one a token (history at another noise level than the section, MAGI-style chunks).
TimeEmbedding = Float[Tensor, "b k d"]  # of the noise level: one vector a video, or one a token


def sinusoid(value: Float[Tensor, "*any"], channels: int = 256) -> Float[Tensor, "*any {channels}"]:
    """The usual embedding of a scalar: cosines then sines, wavelengths from 2 pi to 20,000 pi, fp32."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=value.device, dtype=torch.float32) / half)
    angles = value.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class Mlp(nn.Module):
    """Linear, SiLU, linear: how every temb input reaches the width of the model."""

    def __init__(self, in_width: int, width: int):
        super().__init__()
        self.linear_1 = nn.Linear(in_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "*any i"]) -> Float[Tensor, "*any d"]:
        return self.linear_2(F.silu(self.linear_1(x)))


class Modulation(nn.Module):
    """AdaLN: `parts` vectors from the time embedding, each shaped to act on tokens."""

    def __init__(self, width: int, parts: int):
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * width)

    def forward(self, temb: Float[Tensor, "b d"] | TimeEmbedding) -> tuple[Float[Tensor, "b #n d"], ...]:
        out = self.linear(F.silu(temb))
        if out.ndim == 2:
            out = out[:, None]
        return out.chunk(self.parts, -1)


def modulate(x: Tokens, shift: Float[Tensor, "b #n d"], scale: Float[Tensor, "b #n d"]) -> Tokens:
    """LayerNorm without weights, then scale and shift."""
    # Autocast on a GPU would make fp32 of it: thrice the memory, and the kernel's sums are in fp32 in any case.
    with torch.autocast(x.device.type, enabled=False):
        normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return torch.addcmul(shift, normed, 1 + scale)


class _Projection(nn.Module):
    """A linear layer under the released name `proj`."""

    def __init__(self, in_width: int, out_width: int):
        super().__init__()
        self.proj = nn.Linear(in_width, out_width)


class FeedForward(nn.Module):
    """Linear, activation, linear; the released names are `net.0.proj` and `net.2`."""

    def __init__(self, width: int, ratio: float, activation: nn.Module):
        super().__init__()
        hidden = int(width * ratio)
        self.net = nn.ModuleList([_Projection(width, hidden), activation, nn.Linear(hidden, width)])

    def forward(self, x: Tokens) -> Tokens:
        return self.net[2](self.net[1](self.net[0].proj(x)))


class RMSNorm(nn.Module):
    """Root-mean-square norm with a weight, in fp32, given back in the dtype of `x`: the QK-norm."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*any d"]) -> Float[Tensor, "*any d"]:
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps).to(x.dtype)


def split_heads(x: Tokens, heads: int) -> Float[Tensor, "b h n e"]:
    return rearrange(x, "b n (h d) -> b h n d", h=heads)


class SelfAttention(nn.Module):
    """Queries, keys and values of one stream; QK-norm and rotation on the way. The output layer is the caller's."""

    def __init__(self, width: int, heads: int, qk_norm: bool = True):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.norm_q = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.norm_k = RMSNorm(width // heads) if qk_norm else nn.Identity()

    def qkv(self, x: Tokens, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, `[b, heads, n, d]`; without a rotation the tokens have no order."""
        query, key, value = (split_heads(layer(x), self.heads) for layer in (self.to_q, self.to_k, self.to_v))
        query, key = self.norm_q(query), self.norm_k(key)
        if rotation is None:
            return query, key, value
        return rotate(query, rotation), rotate(key, rotation), value
