"""Weights of the blocks in 8 bits: integers or e4m3 floats with a scale for each output channel; products as ever.

A layer keeps its names: `weight` holds the bits, and the scale is no part of the state dict. Nothing is rounded but the
weights: they become the working precision's numbers for the product, whose output the scale multiplies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.backbones.base import Backbone
from mpgen.backbones.lora import ADAPTER, LoraLinear
from mpgen.errors import UserError

EightBit = Literal["int8", "float8"]


@dataclass(frozen=True)
class Format:
    """What 8 bits mean.

    Args:
        dtype: of the numbers.
        largest: of them, which the largest weight of a channel becomes.
    """

    dtype: torch.dtype
    largest: float


FORMATS: Mapping[EightBit, Format] = MappingProxyType(
    {"int8": Format(torch.int8, 127.0), "float8": Format(torch.float8_e4m3fn, 448.0)}
)


class _Product(torch.autograd.Function):
    """Rows times a weight in 8 bits; for the backward pass the bits are kept, not the numbers made of them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, numbers: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(numbers, scale)
        return F.linear(rows, numbers.to(rows.dtype)) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        numbers, scale = ctx.saved_tensors
        return (gradient * scale) @ numbers.to(gradient.dtype), None, None


class EightBitLinear(nn.Linear):
    """A linear layer that does not train, and whose weight is kept in 8 bits.

    Args:
        layer: whose weight is taken, if it is there; else `store` gives one later.
        kind: of the numbers.
    """

    scale: Float[Tensor, " o"]

    def __init__(self, layer: nn.Linear, kind: EightBit):
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.format = FORMATS[kind]
        self.bias = layer.bias
        # As bytes: `module.to(dtype)` would make 16 bits of floats of 8.
        self.weight = nn.Parameter(torch.empty_like(self.weight, dtype=torch.uint8), requires_grad=False)
        self.register_buffer("scale", torch.empty(layer.out_features, device="meta"), persistent=False)
        if not layer.weight.is_meta:
            self.store(layer.weight)

    @torch.no_grad()
    def store(self, weight: Float[Tensor, "o i"]) -> None:
        """Takes the values of a weight. Scales are such that bf16 can hold them."""
        weight = weight.float()
        scale = (weight.abs().amax(1) / self.format.largest).clamp(min=1e-30).bfloat16().float()
        scaled = (weight / scale[:, None]).clamp(-self.format.largest, self.format.largest)
        numbers = scaled.round() if self.format.dtype == torch.int8 else scaled
        self.weight = nn.Parameter(numbers.to(self.format.dtype).view(torch.uint8), requires_grad=False)
        self.scale = scale

    @property
    def numbers(self) -> Tensor:
        return self.weight.data.view(self.format.dtype)

    @property
    def values(self) -> Float[Tensor, "o i"]:
        """The weight as it counts, in fp32."""
        return self.numbers.float() * self.scale.float()[:, None]

    def forward(self, input: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        place = input.device.type
        dtype = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else input.dtype
        product = _Product.apply(input.to(dtype), self.numbers, self.scale.to(dtype))
        return product if self.bias is None else product + self.bias.to(dtype)


class EightBitLoraLinear(LoraLinear, EightBitLinear):
    """The same with an adapter beside it, which trains."""

    def __init__(self, layer: LoraLinear, kind: EightBit):
        EightBitLinear.__init__(self, layer, kind)
        self.lora_A, self.lora_B = layer.lora_A, layer.lora_B


def store_blocks(backbone: Backbone, kind: EightBit) -> None:
    """Keeps the weights of the blocks' linear layers in 8 bits, but for those that train.

    Raises:
        UserError: all of them train.
    """
    kinds: dict[type[nn.Module], type[EightBitLinear]] = {nn.Linear: EightBitLinear, LoraLinear: EightBitLoraLinear}
    found = 0
    for block in backbone.blocks:
        for name, layer in list(block.named_modules()):
            if type(layer) in kinds and ADAPTER not in name and not layer.weight.requires_grad:
                block.set_submodule(name, kinds[type(layer)](layer, kind))
                found += 1
    if not found:
        raise UserError(
            f"{kind} is for weights of blocks that do not train: wanted LoRA adapters (model.denoiser.lora) or "
            "model.train without the blocks, or another model.frozen_dtype"
        )


def count_bytes(module: nn.Module) -> int:
    """Of parameters and buffers, scales among them."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
