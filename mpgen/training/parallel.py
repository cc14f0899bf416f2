"""How a step is spread over processes: what a rank holds, when gradients are reduced, that ranks stay in lock step.

A strategy hands one of these distributions to the module, so the one training step is the same on one device, on copies
(DDP) and on shards (FSDP2). All of them bring gradients together once, after the last section of a video.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from mpgen.checkpoints.sources import Stored
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError

BUCKET = 2**25  # gradients are averaged so many numbers at a time


class Distribution(ABC):
    """What a step does differently when several processes share it."""

    keeps_layers: ClassVar[bool] = True
    """Whether frozen weights may be in 8 bits or wait in host memory; shards would be gathered in another dtype."""

    @abstractmethod
    def place(self, denoiser: Denoiser) -> None:
        """Leaves to this rank its part of the network; called once, when the weights are there."""

    @abstractmethod
    def before_backward(self, denoiser: Denoiser, last: bool) -> None:
        """Called before every section's backward pass; `last` is the video's last section."""

    @abstractmethod
    def finish_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Makes the gradients the mean over all ranks; called after the last section's backward pass."""

    @abstractmethod
    def clip_gradients(self, parameters: Sequence[nn.Parameter], max_norm: float | int) -> Float[Tensor, ""]:
        """Clips gradients by global norm; returns the norm before clipping."""

    def mean(self, value: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The mean of a number over all ranks, without a gradient."""
        if world_size() == 1:
            return value.detach()
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / world_size()

    @abstractmethod
    def check_forwards(self, num_sections: int, step: int, device: torch.device) -> None:
        """`check_lock_step` if ranks need each other for forward passes alone."""

    def check_lock_step(self, num_sections: int, step: int, device: torch.device) -> None:
        """Every rank must run as many forwards as the others, or collectives wait for ever.

        Raises:
            UserError: on every rank, when the numbers of sections differ.
        """
        if world_size() == 1:
            return
        bounds = torch.tensor([num_sections, -num_sections], device=device)
        dist.all_reduce(bounds, dist.ReduceOp.MAX)
        most, fewest = int(bounds[0]), -int(bounds[1])
        if most != fewest:
            raise UserError(
                f"ranks differ at step {step}: videos of {fewest} to {most} sections, "
                f"{num_sections} on rank {dist.get_rank()}; wanted the same number on every rank, "
                "which data.curriculum gives when all ranks read the same manifest and cache"
            )


class Replicated(Distribution):
    """Every rank has the whole network; also that of a single process.

    Not torch's DDP wrapper: its reducer leaves alone what the last section's graph does not reach, and the layers that
    read the start image are reached only while it is among the replayed windows. Ranks would part without a word.
    """

    def place(self, denoiser: Denoiser) -> None:
        """All of it stays."""

    def before_backward(self, denoiser: Denoiser, last: bool) -> None:
        """Gradients add up on each rank."""

    def check_forwards(self, num_sections: int, step: int, device: torch.device) -> None:
        """Each rank forwards alone."""

    @torch.no_grad()
    def finish_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        if world_size() == 1:
            return
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            flat /= world_size()
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def clip_gradients(self, parameters: Sequence[nn.Parameter], max_norm: float | int) -> Float[Tensor, ""]:
        return nn.utils.clip_grad_norm_(parameters, max_norm)


@dataclass(frozen=True)
class Sharded(Distribution):
    """Every rank has its rows of every parameter (FSDP2); a layer is whole only while it computes.

    Args:
        mesh: the ranks.
        compute_dtype: layers are gathered in this dtype, or in their own if None; the head always in its own. Gradients
            are reduced in fp32.
        sync_every_section: gradients are reduced after every section, not only the last: more traffic, but whole
            gradients of all that trains are never kept. For training much of a large network.
    """

    mesh: DeviceMesh
    compute_dtype: torch.dtype | None = None
    sync_every_section: bool = False

    keeps_layers = False

    def place(self, denoiser: Denoiser) -> None:
        # Noise levels must not be rounded, so inputs are not cast; autocast sees to them, as without shards.
        low = MixedPrecisionPolicy(
            param_dtype=self.compute_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        own = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)

        def shard(*modules: nn.Module, policy: MixedPrecisionPolicy = low) -> None:
            # Roots too are given back after use: a gathered parameter would be a plain tensor among sharded ones.
            fully_shard(
                modules[0] if len(modules) == 1 else list(modules),
                mesh=self.mesh, reshard_after_forward=True, mp_policy=policy,
            )  # fmt: skip

        backbone, memory = denoiser.backbone, denoiser.memory
        for part in (*backbone.blocks, *backbone.units):
            shard(part)
        shard(*backbone.head_modules, policy=own)
        shard(backbone)
        for method in ("embed_history", "trunk"):
            register_fsdp_forward_method(backbone, method)
        if memory is not None:
            shard(memory)
            for method in ("seed", "update", "updates", "tokens"):
                register_fsdp_forward_method(memory, method)

    def check_forwards(self, num_sections: int, step: int, device: torch.device) -> None:
        self.check_lock_step(num_sections, step, device)

    def before_backward(self, denoiser: Denoiser, last: bool) -> None:
        for part in denoiser.children():
            assert isinstance(part, FSDPModule)
            part.set_requires_gradient_sync(last or self.sync_every_section)

    def finish_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Nothing: the last backward pass left every rank the mean of its rows."""

    def clip_gradients(self, parameters: Sequence[nn.Parameter], max_norm: float | int) -> Float[Tensor, ""]:
        norm = nn.utils.clip_grad_norm_(parameters, max_norm)
        assert isinstance(norm, DTensor)
        return norm.full_tensor()


def world_size() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def placed_like(value: Tensor | Stored, like: Tensor) -> Tensor:
    """`value`, which every rank has or reads whole, on the device, in the dtype and in the rows of `like`.

    Ranks do not talk about it.
    """
    if isinstance(value, Stored):
        value = value.read()
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value.to(device=like.device, dtype=like.dtype)
    whole = value.to(device=like.to_local().device, dtype=like.dtype)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def gathered(value: Tensor, keep: bool) -> Tensor:
    """The whole of a tensor on the CPU where `keep` is true; every rank must ask for the same tensors in turn."""
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    return whole.cpu() if keep else value


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
