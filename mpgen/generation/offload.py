"""A backbone larger than the device: its blocks wait in host memory and are on the device one after another.

diffusers' group offloading does it, a block being a group: on a GPU the next block's weights are copied meanwhile, on a
stream of their own. The numbers are the same; only the place of the weights changes. For inference.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mpgen.denoiser import Denoiser
from mpgen.errors import UserError


class _Blocks(nn.Module):
    """The blocks under one module whose forward runs the whole network.

    diffusers learns the order of the blocks, to copy ahead, from the first forward of the module that holds them; only
    where that module has something of its own, hence the buffer.
    """

    def __init__(self, blocks: Sequence[nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("own", torch.zeros(1))

    def forward(self, run: Callable[..., Tensor], *inputs: Any) -> Tensor:
        return run(*inputs)


def offload_blocks(denoiser: Denoiser, device: torch.device) -> None:
    """Moves the denoiser to `device`, but for its blocks, which will be there while they run.

    Raises:
        UserError: diffusers is not installed.
    """
    try:
        from diffusers.hooks import apply_group_offloading
    except ImportError as error:
        raise UserError("--offload needs diffusers: wanted pip install 'mpgen[hunyuan]'") from error
    blocks = denoiser.backbone.blocks
    waiting = {module for block in blocks for module in block.modules()}
    for module in set(denoiser.modules()) - waiting:
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(device)
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer.to(device))
    holder = _Blocks(blocks)
    apply_group_offloading(
        holder, device, offload_type="block_level", num_blocks_per_group=1, use_stream=device.type == "cuda"
    )
    denoiser.forward = partial(holder, denoiser.forward)
