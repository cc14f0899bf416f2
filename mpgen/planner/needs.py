"""What a run needs of its machines: memory of each GPU, traffic between them, days.

Parameters are those of the network itself, operations and activations those of a dry run of a step, so both are
counted and not guessed; the rest follows from how the weights are spread. What is assumed is said with the result.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mpgen.backbones.eight_bit import store_blocks
from mpgen.backbones.swapping import AT_ONCE, frozen_matrices, swapped
from mpgen.checkpoints.plain import class_path
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError
from mpgen.training.callbacks.ema import EMA
from mpgen.training.devices import PEAKS, peak_flops
from mpgen.training.dry_run import DryRun, Precision
from mpgen.training.module import LongVideoModule
from mpgen.training.parameters import Trainable, select_trainable

FP32_BYTES = 4


@dataclass(frozen=True)
class Machines:
    """What a run is given.

    Args:
        gpus: over all nodes.
        sharded: weights, gradients and the optimizer's state are spread over them (FSDP2), not copied (DDP).
        weights: dtype of the weights that train.
        autocast: dtype of matrix products, if it is another one.
        sync_every_section: gradients are reduced after every section, so that a GPU keeps only its part of them.
        averages: the moving average of the weights is on the GPUs too.
    """

    gpus: int
    sharded: bool
    weights: torch.dtype
    autocast: torch.dtype | None
    sync_every_section: bool = False
    averages: bool = True

    @property
    def compute(self) -> torch.dtype:
        return self.weights if self.autocast is None else self.autocast

    @property
    def precision(self) -> Precision:
        return Precision(self.weights, self.compute if self.sharded else self.weights, self.autocast)


@dataclass(frozen=True)
class Assumptions:
    """What nothing in a config says.

    Args:
        gpu: the kind of GPU, as it calls itself; its peak is from the maker's data sheet.
        gpu_memory_gb: of one GPU, in 10^9 bytes as makers say it.
        mfu: share of the peak that the network's own operations reach. 0.4 is what large transformers usually get.
        usable: share of the memory that tensors can have; the rest goes to the driver, NCCL and fragmentation.
        bandwidth_gb_s: what a GPU sends and receives a second, in 10^9 bytes: 50 is a 400 Gb/s port for each GPU.
    """

    gpu: str = "H100"
    gpu_memory_gb: float | int = 80.0
    mfu: float | int = 0.4
    usable: float | int = 0.92
    bandwidth_gb_s: float | int = 50.0

    def __post_init__(self) -> None:
        if peak_flops(self.gpu) is None:
            raise UserError(f"gpu {self.gpu!r}: wanted one of {', '.join(PEAKS)}")
        if not 0 < self.mfu <= 1 or not 0 < self.usable <= 1:
            raise UserError(f"mfu {self.mfu} and usable {self.usable}: wanted shares above 0, at most 1")
        if self.gpu_memory_gb <= 0 or self.bandwidth_gb_s <= 0:
            raise UserError(
                f"gpu_memory_gb {self.gpu_memory_gb} and bandwidth_gb_s {self.bandwidth_gb_s}: wanted more than 0"
            )

    @property
    def peak_flops(self) -> float:
        peak = peak_flops(self.gpu)
        assert peak is not None
        return peak


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one GPU's memory at the worst moment of a step, by what holds them.

    `gathered` are blocks in shards while they are whole, `swapped` copies of blocks that wait in host memory.
    """

    weights: float | int
    gradients: float | int
    optimizer: float | int
    average: float | int
    gathered: float | int
    swapped: float | int
    activations: float | int

    @property
    def total(self) -> float | int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class Network:
    """The network that a module describes, on the meta device, and what of it trains."""

    denoiser: Denoiser
    trainable: Trainable

    @classmethod
    def of(cls, module: LongVideoModule) -> "Network":
        with torch.device("meta"):
            denoiser = Denoiser(module.denoiser_config)
        trainable = select_trainable(denoiser, module.train_patterns)
        if module.eight_bit is not None:
            store_blocks(denoiser.backbone, module.eight_bit)
        return cls(denoiser, trainable)

    def frozen_bytes(self, dtype: torch.dtype) -> int:
        """Of what does not train, in a dtype where it is not in 8 bits; scales among them."""
        kept = _bytes((p for p in self.denoiser.parameters() if not p.requires_grad), dtype)
        return kept + sum(buffer.nbytes for buffer in self.denoiser.buffers())

    def waiting_bytes(self, swap_blocks: int, dtype: torch.dtype) -> list[int]:
        """Of what waits in host memory, for each block of which something does."""
        chosen = swapped(self.denoiser.backbone.blocks, swap_blocks)
        return [_bytes(frozen_matrices(block).values(), dtype) for block in chosen]

    @property
    def total(self) -> int:
        return sum(p.numel() for p in self.denoiser.parameters())

    @property
    def largest_block(self) -> nn.Module:
        return max(self.denoiser.backbone.blocks, key=_count)


def memory_need(
    module: LongVideoModule, network: Network, machines: Machines, trial: DryRun, swap_blocks: int | None = None
) -> MemoryNeed:
    """Of one GPU, with the activations of this dry run; `swap_blocks` are the module's if not given."""
    shards = machines.gpus if machines.sharded else 1
    trained = network.trainable.count
    own = machines.weights.itemsize
    still = machines.weights if machines.weights != torch.float32 else module.frozen_dtype
    block, learns = _count(network.largest_block), any(p.requires_grad for p in network.largest_block.parameters())
    # The block that computes and the next one on its way; in the backward pass also one block's whole gradients.
    gathered = (2 * block * machines.compute.itemsize + learns * block * FP32_BYTES) if shards > 1 else 0
    # Gradients are usually reduced once a video, after the last section; until then a rank keeps them whole.
    gradients = trained * own / (shards if machines.sync_every_section else 1)
    waiting = network.waiting_bytes(module.swap_blocks if swap_blocks is None else swap_blocks, still)
    return MemoryNeed(
        weights=(trained * own + network.frozen_bytes(still) - sum(waiting)) / shards,
        gradients=gradients,
        optimizer=trial.state_bytes / shards,
        average=trained * own / shards if machines.averages else 0,
        gathered=gathered,
        swapped=min(AT_ONCE, len(waiting)) * max(waiting, default=0),
        # the optimizer's step comes when activations are gone
        activations=max(trial.activation_bytes, trial.step_bytes / shards),
    )


def traffic_bytes(network: Network, machines: Machines, num_sections: int, exchanged: float | int = 0) -> float:
    """What a GPU receives in a step; it sends as much. `exchanged` is for shared tokens, a section."""
    others = (machines.gpus - 1) / machines.gpus
    gradients = network.trainable.count * FP32_BYTES * others
    tokens = num_sections * exchanged
    if not machines.sharded:
        return 2 * gradients + tokens  # reduced, then gathered
    passes = 1 if network.trainable.head_only else 2
    meetings = num_sections if machines.sync_every_section else 1
    return tokens + meetings * gradients + passes * num_sections * network.total * machines.compute.itemsize * others


@dataclass(frozen=True)
class Pace:
    """Seconds of a step, computing and communicating, which overlap; so the longer one counts. And bytes received."""

    compute: float
    traffic: float
    received_bytes: float

    @property
    def step(self) -> float:
        return max(self.compute, self.traffic)


def pace(
    network: Network,
    machines: Machines,
    trial: DryRun,
    assumed: Assumptions,
    num_sections: int,
    batches: int = 1,
    context_parallel: int = 1,
) -> Pace:
    """Of a step of so many batches, whose videos have so many sections."""
    exchanged = trial.exchanged_bytes * (context_parallel - 1) / context_parallel
    traffic = traffic_bytes(network, machines, num_sections * batches, exchanged)
    return Pace(
        batches * trial.flops(num_sections) / (assumed.mfu * assumed.peak_flops),
        traffic / (assumed.bandwidth_gb_s * 1e9),
        traffic,
    )


def machines_for(trainer: dict[str, Any]) -> Machines:
    """What the trainer's settings ask for; "auto" counts as one GPU."""
    devices, nodes = trainer["devices"], trainer["num_nodes"]
    if isinstance(devices, list):
        count = len(devices)
    elif isinstance(devices, str) and "," in devices:
        count = len([part for part in devices.split(",") if part.strip()])
    else:
        count = int(devices) if str(devices).isdigit() else 1
    precision = str(trainer["precision"])
    strategy = trainer["strategy"]
    named = strategy if isinstance(strategy, str) else str(strategy.get("class_path", ""))
    half = torch.bfloat16 if "bf16" in precision else torch.float16
    low, true = "16" in precision, precision.endswith("true")
    return Machines(
        gpus=max(count, 1) * nodes,
        sharded="fsdp" in named.lower(),
        weights=half if low and true else torch.float32,
        autocast=half if low and not true else None,
        sync_every_section=not isinstance(strategy, str)
        and bool(strategy.get("init_args", {}).get("sync_every_section")),
        averages="callbacks" not in trainer or any(map(_averages_on_gpu, trainer["callbacks"] or [])),
    )


def _averages_on_gpu(callback: Mapping[str, Any]) -> bool:
    return callback["class_path"] == class_path(EMA) and not callback.get("init_args", {}).get("on_host")


def _bytes(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> int:
    return sum(p.nbytes if p.dtype == torch.uint8 else p.numel() * dtype.itemsize for p in parameters)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
