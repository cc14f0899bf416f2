"""How networks compute: in float32, or in bfloat16 where it pays (products, convolutions)."""

from contextlib import AbstractContextManager

import torch
from torch import nn

from mpgen.evaluation.metric import Precision
from mpgen.products import with_fast_products

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
