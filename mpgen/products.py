"""Matrix products in float32 on a CPU by oneDNN.

torch gives them to MKL, which on processors that are not Intel's uses half of what they can do: 100 against 200 GFLOPS
on one core of an AMD EPYC (Zen 5). Convolutions and bfloat16 are oneDNN's already.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def linear(
    rows: Float[Tensor, "*n d"], weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"] | None = None
) -> Float[Tensor, "*n m"]:
    """`F.linear`: each row's scalar products with the rows of the weight. For inference."""
    by_onednn = rows.device.type == "cpu" and rows.dtype == torch.float32 == weight.dtype
    if not by_onednn or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
        return F.linear(rows, weight, bias)
    return F.linear(rows.to_mkldnn(), weight, bias).to_dense()


def all_pairs(rows: Float[Tensor, "b n d"], others: Float[Tensor, "b m d"]) -> Float[Tensor, "b n m"]:
    """Every row's scalar product with every other."""
    if len(rows) == 1:
        return linear(rows[0], others[0])[None]
    return rows @ others.mT


class Linear(nn.Module):
    """A linear layer's parameters under the same names, computed by `linear`."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, rows: Float[Tensor, "*n d"]) -> Float[Tensor, "*n m"]:
        return linear(rows, self.weight, self.bias)


def with_fast_products(network: nn.Module) -> nn.Module:
    """The network with every linear layer replaced."""
    for name, part in list(network.named_modules()):
        if type(part) is nn.Linear:
            network.set_submodule(name, Linear(part))
    return network
