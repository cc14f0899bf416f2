"""Block swapping: frozen weights wait in host memory and are on the device only while their block computes.

A block computes with copies of its weights, not with the parameters, so what autograd keeps are the copies, and they
are gone with the block's graph. Forward and backward (where the block is computed again) copy the next block's weights
meanwhile, on a GPU from pinned memory on a stream of their own. The numbers are the same.

Not diffusers' group offloading, which generation uses: its hooks run at a module's forward and learn one order, so they
miss a block that is computed again and copy the wrong one ahead in the backward pass; and weights that train would go
too. FSDP2's `CPUOffloadPolicy` takes the optimizer to the host with the weights, and cannot gather 8 bits.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mpgen.backbones.base import Backbone
from mpgen.backbones.recompute import Block, Run
from mpgen.errors import UserError

FORWARD, BACKWARD = 1, -1
AT_ONCE = 2  # blocks whose weights are on the device: the one that computes, and the next on its way


def swap_blocks(backbone: Backbone, count: int) -> None:
    """Lets the frozen weights of so many blocks, evenly spaced, wait in host memory.

    To be called when the weights are there and every block is set to be computed again in `full`: selective recomputing
    counts operations, and copying ahead is not one of the block's own. Biases and norms stay.

    Raises:
        UserError: there are not so many blocks, or all weights of them train.
    """
    blocks = backbone.blocks
    if not 1 <= count <= len(blocks):
        raise UserError(f"model.swap_blocks {count}: wanted 0 to {len(blocks)}, the backbone's blocks")
    chosen = swapped(blocks, count)
    waiting = [frozen_matrices(block) for block in chosen]
    if not any(waiting):
        raise UserError(
            f"model.swap_blocks {count} is for weights that do not train: wanted LoRA adapters (model.denoiser.lora) "
            "or model.train without the blocks, or model.swap_blocks 0"
        )
    window = Window([{name: _on_host(parameter) for name, parameter in each.items()} for each in waiting])
    for number, (block, weights) in enumerate(zip(chosen, waiting, strict=True)):
        block.stays = frozenset(weights.values())
        block.run = partial(_run, block.run, _Compute(block), window, number)


def swapped(blocks: Iterable[Block], count: int) -> list[Block]:
    """Which blocks wait, if so many do: far apart, so that a copy has the time of the blocks between them."""
    blocks = list(blocks)
    total = len(blocks)
    return [block for i, block in enumerate(blocks) if i * count // total < (i + 1) * count // total]


def frozen_matrices(block: Block) -> dict[str, nn.Parameter]:
    """The weights that wait: what does not train of linear layers."""
    return {name: p for name, p in block.named_parameters() if p.ndim == 2 and not p.requires_grad}


class Window:
    """Copies of the weights of `AT_ONCE` blocks, which move on as blocks compute.

    Args:
        waiting: the weights of each block, on the host.
    """

    def __init__(self, waiting: Sequence[Mapping[str, Tensor]]):
        self.waiting = tuple(waiting)
        self.here: dict[int, _Copies] = {}

    def take(self, number: int, direction: int, device: torch.device) -> dict[str, Tensor]:
        """The weights of a block that is about to compute, and, on their way, those of the next in this direction."""
        wanted = [n for n in (number, number + direction) if 0 <= n < len(self.waiting)]
        for gone in self.here.keys() - set(wanted):
            self.here.pop(gone).arrived()
        for coming in wanted:
            if coming not in self.here:
                self.here[coming] = _Copies(self.waiting[coming], device)
        return self.here[number].arrived()


class _Copies:
    """Copies on a device, perhaps still under way.

    Their memory belongs to the stream that computes: when a block is gone it is free for the next one, in that stream's
    order, and the copying stream begins when what was there before is no longer read.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: torch.device):
        self.tensors = {name: torch.empty_like(weight, device=device) for name, weight in weights.items()}
        self.stream = _copying_stream(device) if device.type == "cuda" else None
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(device))
        with torch.no_grad(), nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            for name, weight in weights.items():
                self.tensors[name].copy_(weight, non_blocking=True)
            self.done = None if self.stream is None else self.stream.record_event()

    def arrived(self) -> dict[str, Tensor]:
        """The copies; what is asked of the device from now on waits for them."""
        if self.done is not None:
            torch.cuda.current_stream(self.stream.device).wait_event(self.done)
        return self.tensors


class _Compute(nn.Module):
    """What a block computes, as a module whose weights can be given with the call."""

    def __init__(self, block: Block):
        super().__init__()
        self.block = block

    def forward(self, *inputs: Any) -> Any:
        return self.block.compute(*inputs)


class _WithCopies:
    """One forward of a block, which runs a second time where it is computed again."""

    def __init__(self, compute: _Compute, window: Window, number: int):
        self.compute, self.window, self.number = compute, window, number
        self.direction = FORWARD

    def __call__(self, *inputs: Any) -> Any:
        direction, self.direction = self.direction, BACKWARD
        copies = self.window.take(self.number, direction, inputs[0].device)
        return functional_call(self.compute, {f"block.{name}": copy for name, copy in copies.items()}, inputs)


def _run(keep: Run, compute: _Compute, window: Window, number: int, _: Run, *inputs: Any) -> Any:
    return keep(_WithCopies(compute, window, number), *inputs)


def _on_host(parameter: nn.Parameter) -> Tensor:
    """Its values; pinned where there is a GPU, which can then be computing while they are copied."""
    if torch.cuda.is_available():
        parameter.data = parameter.data.pin_memory()
    return parameter.data


@cache
def _copying_stream(device: torch.device) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)
