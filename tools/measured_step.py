"""One training step as `mpgen fit` makes it, with random weights and without data: seconds, operations, peak memory.

For tests and `check_gpu.py`, which compare the peak with what `mpgen plan` says of the same module.
"""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from benchmark_training import made, random_batch

from mpgen.backbones.eight_bit import count_bytes
from mpgen.denoiser import Denoiser
from mpgen.planner.needs import Machines, Network, memory_need
from mpgen.training.blocks import prepare_blocks
from mpgen.training.dry_run import Precision, Shape, dry_run
from mpgen.training.footprint import LiveMemory
from mpgen.training.module import LongVideoModule
from mpgen.training.noise import KeyedNoise
from mpgen.training.parallel import Replicated

SECTIONS = 4  # of a video; with two past sections in the memory's gradient, no later one needs more


@dataclass(frozen=True)
class MeasuredStep:
    """What a step took, and what the planner said of it.

    Args:
        seconds: of the last step.
        peak_bytes: alive at most, weights, gradients and the optimizer's state among them.
        planned_bytes: the planner's figure for the same.
        flops: operations, as the planner counts them.
        losses: of every step.
    """

    seconds: float
    peak_bytes: int
    planned_bytes: float
    flops: int
    losses: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Measured over planned."""
        return self.peak_bytes / self.planned_bytes


def build(module: LongVideoModule, device: torch.device) -> Denoiser:
    """The network as the module trains it, with random weights on a device."""
    first = torch.device("cpu") if module.swap_blocks or module.eight_bit else device
    low = module.frozen_dtype == torch.bfloat16
    denoiser = made(module.denoiser_config, first, list(module.train_patterns), low)
    prepare_blocks(
        denoiser.backbone, Replicated(), eight_bit=module.eight_bit, from_file=True, recompute=module.recompute,
        compiled=module.compile_blocks, swaps=module.swap_blocks, context_parallel=1,
    )  # fmt: skip
    return denoiser.to(device)


def measured_step(
    module: LongVideoModule, shape: Shape, device: torch.device, low: bool = True, steps: int = 2
) -> MeasuredStep:
    """Trains for some steps on one device and looks at the peak.

    Args:
        module: what trains, and how; without the average of its weights.
        shape: of a batch.
        device: a CPU, where tensors are counted, or a GPU, whose allocator is asked.
        low: products in bf16, as `bf16-mixed` has them.
        steps: the first allocates, so the last is timed.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    denoiser = build(module, device)
    waiting = {p for block in denoiser.backbone.blocks for p in block.stays}
    resident = count_bytes(denoiser) - sum(p.nbytes for p in waiting)
    batch = random_batch(denoiser, shape, SECTIONS, device)
    batch = replace(batch, conditioning=batch.conditioning.guided(module.guidance_scale))
    optimizer = module.make_optimizer([(n, p) for n, p in denoiser.named_parameters() if p.requires_grad])
    losses: list[float] = []
    autocast = torch.autocast(device.type, torch.bfloat16, cache_enabled=on_gpu) if low else nullcontext()

    def step(number: int) -> None:
        total = 0.0
        for section in module.objective.losses(denoiser, batch, KeyedNoise(module.seed, number)):
            (section.loss / SECTIONS).backward()
            total += float(section.loss.detach())
            del section
        with torch.autocast(device.type, enabled=False):
            optimizer.step()
        optimizer.zero_grad()
        losses.append(total / SECTIONS)

    with nullcontext() if on_gpu else LiveMemory() as memory, autocast:
        for number in range(steps):
            began = time.perf_counter()
            step(number)
            if on_gpu:
                torch.cuda.synchronize(device)
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else resident + memory.peak
    machines = Machines(1, False, torch.float32, torch.bfloat16 if low else None, averages=False)
    trial = dry_run(module, shape, Precision(autocast=machines.autocast))
    planned = memory_need(module, Network.of(module), machines, trial).total
    return MeasuredStep(seconds, peak, planned, trial.flops(SECTIONS), tuple(losses))
