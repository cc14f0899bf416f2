"""The last block of a transformer whose class token alone is read."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


def class_attention(
    tokens: Float[Tensor, "b n d"],
    weight: Float[Tensor, "threed d"],
    bias: Float[Tensor, " threed"],
    output: nn.Linear,
    num_heads: int,
) -> Float[Tensor, "b 1 d"]:
    """Self-attention's answer for the first token; of the others only keys and values are computed.

    Args:
        tokens: normed.
        weight: rows of queries, then of keys, then of values.
        bias: likewise.
        output: the projection after the heads.
        num_heads: of them.
    """
    width = tokens.shape[2]
    query = F.linear(tokens[:, :1], weight[:width], bias[:width])
    key, value = F.linear(tokens, weight[width:], bias[width:]).chunk(2, -1)
    heads = (rearrange(part, "b n (a c) -> b a n c", a=num_heads) for part in (query, key, value))
    return output(rearrange(F.scaled_dot_product_attention(*heads), "b a n c -> b n (a c)"))
