"""How networks compute: in float32, or bfloat16 where it pays (products, convolutions), and how many frames at once."""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from mpgen.evaluation.nets.products import with_fast_products

Precision = Literal["fp32", "bf16"]
_WEIGHTY = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)


def computing(precision: Precision, device: torch.device) -> AbstractContextManager:
    """Inside, networks that `prepared` made compute in that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def prepared(network: nn.Module, precision: Precision) -> nn.Module:
    """The network for inference; in bf16 its large weights are stored so, lest they be converted at every frame."""
    network.eval().requires_grad_(False)
    if precision == "fp32":
        with_fast_products(network)
    else:
        for part in network.modules():
            if isinstance(part, _WEIGHTY):
                for parameter in part.parameters(recurse=False):
                    parameter.data = parameter.data.bfloat16()
    return network


def batches(pictures: Tensor, size: int) -> tuple[Tensor, ...]:
    """In parts of `size` on a GPU; one by one on a CPU, where what fits into its caches is faster."""
    return pictures.split(1 if pictures.device.type == "cpu" else size)
