"""What a block keeps for its backward pass and what it computes again (activation checkpointing).

Recomputing happens inside the block and without reentrant autograd: sharding and `block.compile()` see an ordinary
module, no parameter changes its name, and nothing is paid where there is no graph, as in the trunk of stage 2.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
)

Run = Callable[..., Any]
Recompute = Literal["none", "selective", "full"]

_aten = torch.ops.aten
ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
}


def keep_all(compute: Run, *inputs: Any) -> Any:
    """Nothing is computed again: the fastest."""
    return compute(*inputs)


def keep_costly(compute: Run, *inputs: Any) -> Any:
    """Keeps what is costly for its size: attention, and products that make many numbers into fewer."""
    if not torch.is_grad_enabled():
        return compute(*inputs)
    contexts = partial(create_selective_checkpoint_contexts, _is_costly)
    return checkpoint(compute, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


def keep_inputs(compute: Run, *inputs: Any) -> Any:
    """Keeps the block's inputs alone: the least memory, a third more time."""
    if not torch.is_grad_enabled():
        return compute(*inputs)
    return checkpoint(compute, *inputs, use_reentrant=False, preserve_rng_state=False)


RECOMPUTE: Mapping[Recompute, Run] = MappingProxyType({"none": keep_all, "selective": keep_costly, "full": keep_inputs})


class Block(nn.Module):
    """A block of the backbone: `compute` is what it does, `run` how much of it is kept."""

    def __init__(self):
        super().__init__()
        self.run: Run = keep_all
        self.stays: frozenset[Tensor] = frozenset()  # what is not moved with the rest, see `mpgen.backbones.swapping`

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Block":
        return super()._apply(lambda tensor: tensor if tensor in self.stays else fn(tensor), recurse)

    def forward(self, *inputs: Any) -> Any:
        return self.run(self.compute, *inputs)

    def compute(self, *inputs: Any) -> Any:
        raise NotImplementedError


def _is_costly(_: SelectiveCheckpointContext, operation: Callable, *inputs: Any, **__: Any) -> CheckpointPolicy:
    costly = operation in ATTENTION or (operation in _PRODUCTS and _narrows(*inputs[_PRODUCTS[operation] :][:2]))
    return CheckpointPolicy.MUST_SAVE if costly else CheckpointPolicy.PREFER_RECOMPUTE


# Matrix products, and where their two factors stand among the inputs.
_PRODUCTS = {_aten.mm.default: 0, _aten.addmm.default: 1}


def _narrows(rows: Tensor, weight: Tensor) -> bool:
    return weight.shape[0] > weight.shape[1]
