"""Low-rank updates of frozen layers (LoRA, arXiv 2106.09685): how one GPU trains a backbone that it can only just hold.

Ours and not PEFT's, whose wrapper renames what it adapts (`to_q.base_layer.weight`). Here every released name stays, so
strict loading, the patterns of what trains, shards and averages know the network as before; the two new names of a
layer are those that PEFT and diffusers write (`to_q.lora_A.weight`), so `mpgen.checkpoints.lora` merges them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.errors import UserError

ADAPTER = ".lora_"  # in the name of every parameter that such an update has, and of no other


@dataclass(frozen=True)
class LoraConfig:
    """Which layers get an update. It is used as it is learned: alpha equals the rank.

    Args:
        rank: of the updates.
        targets: shell patterns of the names of linear layers; a star matches dots too.
    """

    rank: int = 32
    targets: tuple[str, ...] = (
        "transformer_blocks.*.attn.*",
        "transformer_blocks.*.ff*",
        "single_transformer_blocks.*.attn.*",
        "single_transformer_blocks.*.proj_*",
    )

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"lora.rank {self.rank}: wanted at least 1")


class LoraLinear(nn.Linear):
    """A linear layer and its update, which begins at zero."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.lora_A = nn.Linear(layer.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, input: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        return super().forward(input) + self.lora_B(self.lora_A(input))

    def begin_anew(self, dtype: torch.dtype) -> None:
        """Storage and first values for an update that has none yet."""
        for part in (self.lora_A, self.lora_B):
            part.to_empty(device="cpu").to(dtype).reset_parameters()
        nn.init.zeros_(self.lora_B.weight)


def add_lora(network: nn.Module, config: LoraConfig) -> None:
    """Puts an update beside every linear layer that a target names.

    Raises:
        UserError: when a target names none.
    """
    layers = {name: module for name, module in network.named_modules() if type(module) is nn.Linear}
    for target in config.targets:
        if not any(fnmatchcase(name, target) for name in layers):
            raise UserError(f"lora.targets {target!r} names no linear layer: wanted such as {next(iter(layers))}")
    for name, layer in layers.items():
        if any(fnmatchcase(name, target) for target in config.targets):
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, LoraLinear(layer, config.rank))


def updated_layers(network: nn.Module) -> Iterator[LoraLinear]:
    """The layers that have an update."""
    return (module for module in network.modules() if isinstance(module, LoraLinear))
