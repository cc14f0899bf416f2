"""A backbone larger than the device: its blocks wait in host memory and visit the device one after another.

A block's weights come just before it runs and go right after; on a GPU the next block's weights are copied from pinned
memory meanwhile, on a stream of their own, so at most two blocks are there at a time. The numbers are the same: only
the place of the weights changes. For inference, where weights are not changed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpgen.denoiser import Denoiser


@dataclass(frozen=True)
class _Place:
    """Where a weight hangs in the network, and itself in host memory."""

    owner: nn.Module
    name: str
    host: Tensor

    def put(self, tensor: Tensor) -> None:
        setattr(self.owner, self.name, nn.Parameter(tensor, requires_grad=False))


class _Streamer:
    """Brings blocks to a device in the order they run, round and round."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        self.device = device
        self.copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.places = [list(self._places(block)) for block in blocks]
        self.visiting: dict[int, list[Tensor]] = {}
        for number in range(len(blocks)):
            self.park(number)

    def park(self, number: int) -> None:
        """The block's weights are those in host memory."""
        self.visiting.pop(number, None)
        for place in self.places[number]:
            place.put(place.host)

    def bring(self, number: int) -> None:
        """The block's weights are on the device, and the next block's are on their way."""
        self._fetch(number)
        if self.copying is not None:
            running = torch.cuda.current_stream(self.device)
            running.wait_stream(self.copying)
            for tensor in self.visiting[number]:
                tensor.record_stream(running)  # so that its memory is not given away while the block still runs
        for place, tensor in zip(self.places[number], self.visiting[number], strict=True):
            place.put(tensor)
        if self.copying is not None:
            self._fetch((number + 1) % len(self.places))

    def _fetch(self, number: int) -> None:
        if number not in self.visiting:
            with torch.cuda.stream(self.copying):  # without a stream, this does nothing
                self.visiting[number] = [p.host.to(self.device, non_blocking=True) for p in self.places[number]]

    def _places(self, block: nn.Module) -> Iterator[_Place]:
        for owner in block.modules():
            for name, parameter in list(owner.named_parameters(recurse=False)):
                host = parameter.detach().cpu()
                yield _Place(owner, name, host if self.copying is None else host.pin_memory())


def stream_blocks(denoiser: Denoiser, device: torch.device) -> Callable[[], None]:
    """Moves the denoiser to `device`, but for its blocks, which will visit it.

    Returns:
        what ends the streaming, with the blocks left in host memory.
    """
    blocks = [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]
    streamer = _Streamer(blocks, device)
    for name, module in denoiser.named_children():
        if name not in ("transformer_blocks", "single_transformer_blocks"):
            module.to(device)

    handles = []
    for number, block in enumerate(blocks):
        handles.append(block.register_forward_pre_hook(lambda module, given, n=number: streamer.bring(n)))
        handles.append(block.register_forward_hook(lambda module, given, out, n=number: streamer.park(n)))

    def stop() -> None:
        for handle in handles:
            handle.remove()
        for number in range(len(blocks)):
            streamer.park(number)

    return stop
