"""Self-attention of the transformers; where only the class token is read, the last block computes that one query."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.products import linear


def attention(
    tokens: Float[Tensor, "b n d"],
    weight: Float[Tensor, "threed d"],
    bias: Float[Tensor, " threed"],
    output: nn.Module,
    num_heads: int,
    num_queries: int | None = None,
) -> Float[Tensor, "b m d"]:
    """Multi-head self-attention.

    Args:
        tokens: normalised.
        weight: rows of queries, then of keys, then of values.
        bias: likewise.
        output: the projection after the heads.
        num_heads: of them.
        num_queries: the first so many tokens are queries; of the others only keys and values are computed. None for
            all.
    """
    width = tokens.shape[2]
    if num_queries is None:
        query, key, value = linear(tokens, weight, bias).chunk(3, -1)
    else:
        query = linear(tokens[:, :num_queries], weight[:width], bias[:width])
        key, value = linear(tokens, weight[width:], bias[width:]).chunk(2, -1)
    heads = (rearrange(part, "b n (a c) -> b a n c", a=num_heads) for part in (query, key, value))
    return output(rearrange(F.scaled_dot_product_attention(*heads), "b a n c -> b n (a c)"))
