"""LoRA adapters of frozen layers (arXiv 2106.09685): how one GPU trains a backbone that it can only just hold.

Ours and not PEFT's, whose wrapper renames what it adapts (`to_q.base_layer.weight`). Here every released name stays, so
strict loading, the patterns of what trains, shards and averages know the network as before; the two new names of a
layer are those that PEFT and diffusers write (`to_q.lora_A.weight`), so `mpgen.checkpoints.lora` merges them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.errors import UserError

ADAPTER = ".lora_"  # in the name of every parameter of an adapter, and of no other


@dataclass(frozen=True)
class LoraConfig:
    """Which layers get an adapter; alpha equals the rank.

    Args:
        rank: of the adapters.
        targets: shell patterns of the names of the backbone's linear layers, where a star matches dots too; those that
            the backbone recommends if None.
    """

    rank: int = 32
    targets: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.rank < 1:
            raise UserError(f"lora.rank {self.rank}: wanted at least 1")


class LoraLinear(nn.Linear):
    """A linear layer and its adapter, which begins at zero."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.lora_A = nn.Linear(layer.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, input: Float[Tensor, "*any i"]) -> Float[Tensor, "*any o"]:
        return super().forward(input) + self.lora_B(self.lora_A(input))

    def initialise_adapter(self, dtype: torch.dtype) -> None:
        """Storage and initial values for an adapter that has none yet."""
        for part in (self.lora_A, self.lora_B):
            part.to_empty(device="cpu").to(dtype).reset_parameters()
        nn.init.zeros_(self.lora_B.weight)


def add_lora(network: nn.Module, rank: int, targets: Sequence[str]) -> None:
    """Puts an adapter beside every linear layer that a target names.

    Raises:
        UserError: when a target names none.
    """
    layers = {name: module for name, module in network.named_modules() if type(module) is nn.Linear}
    for target in targets:
        if not any(fnmatchcase(name, target) for name in layers):
            raise UserError(f"lora.targets {target!r} names no linear layer: wanted such as {next(iter(layers))}")
    for name, layer in layers.items():
        if any(fnmatchcase(name, target) for target in targets):
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, LoraLinear(layer, rank))


def adapted_layers(network: nn.Module) -> Iterator[LoraLinear]:
    """The layers that have an adapter."""
    return (module for module in network.modules() if isinstance(module, LoraLinear))
