"""One step on tensors without data: the real objective, network and optimizer, only counted.

So whatever a config asks for (another structure, forcing or set of trained weights) is counted by being run, and there
is no formula to keep up to date. Kernels are those of a CPU; a GPU's fused attention keeps the same tensors.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from mpgen import attention
from mpgen.backbones.eight_bit import store_blocks
from mpgen.backbones.recompute import RECOMPUTE, Recompute
from mpgen.backbones.spread import Ranks, Ulysses
from mpgen.conditioning import Conditioning
from mpgen.data.dataset import VideoBatch
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.training.footprint import AssumedValues, LiveMemory, Operations
from mpgen.training.module import LongVideoModule
from mpgen.training.noise import KeyedNoise
from mpgen.training.optimizers import AdamW8bit
from mpgen.training.parameters import select_trainable

FEW = 2  # blocks of either kind that are run; as they are alike, the rest is what one more of them adds


@dataclass(frozen=True)
class Shape:
    """What a rank is given in one step.

    Args:
        videos: in the batch.
        rows, columns: of latents.
        text_tokens, image_tokens: of conditioning; no image tokens where the backbone takes none.
    """

    videos: int
    rows: int
    columns: int
    text_tokens: int
    image_tokens: int


@dataclass(frozen=True)
class Precision:
    """In which dtypes a step is computed.

    Args:
        weights: of the weights that train, where they are kept.
        layers: of the same where layers use them: sharded weights are gathered in another one.
        autocast: of matrix products, if it is another one.
    """

    weights: torch.dtype = torch.float32
    layers: torch.dtype = torch.float32
    autocast: torch.dtype | None = None

    @property
    def inputs(self) -> torch.dtype:
        return self.layers if self.autocast is None else torch.float32


@dataclass(frozen=True)
class DryRun:
    """What one step costs a rank.

    Args:
        section_flops: operations of section 0, 1 and so on, a multiplication and an addition being two; all further
            ones cost as much as the last.
        context_tokens: of history and memory, which a section sees before its own.
        activation_bytes: the most that is alive above weights, gradients and the batch.
        state_bytes: what the optimizer keeps.
        step_bytes: what it needs besides, while it steps.
        exchanged_bytes: what a rank gives its group in the last section, if ranks share tokens; its own part among it.
    """

    section_flops: tuple[int, ...]
    context_tokens: int
    activation_bytes: int
    state_bytes: int
    step_bytes: int
    exchanged_bytes: int = 0

    def plus(self, other: "DryRun", times: int) -> "DryRun":
        """The sum with another one, taken so many times; context tokens are the same in both."""
        return DryRun(
            tuple(a + times * b for a, b in zip(self.section_flops, other.section_flops, strict=True)),
            self.context_tokens,
            self.activation_bytes + times * other.activation_bytes,
            self.state_bytes + times * other.state_bytes,
            self.step_bytes + times * other.step_bytes,
            self.exchanged_bytes + times * other.exchanged_bytes,
        )

    def flops(self, num_sections: int) -> int:
        """Of a video's sections together."""
        counted = self.section_flops[:num_sections]
        return sum(counted) + (num_sections - len(counted)) * self.section_flops[-1]


def dry_run(
    module: LongVideoModule, shape: Shape, precision: Precision = Precision(), recompute: Recompute | None = None
) -> DryRun:
    """Runs a step of as many sections as differ from one another, and one more.

    Args:
        module: what trains, and how; its network need not be built.
        shape: of a batch.
        precision: of its numbers.
        recompute: what blocks compute again; what the module says if None.
    """
    chosen = module.recompute if recompute is None else recompute
    depths = module.denoiser_config.backbone.depths
    lora = module.denoiser_config.lora
    patterns = (*module.train_patterns, *(() if lora is None else lora.targets or ()))
    if any(re.search(r"blocks\.\d", pattern) for pattern in patterns):  # not all blocks are alike
        return _dry_run(module, shape, precision, chosen, depths)
    few = tuple(min(depth, FEW) for depth in depths)
    base = whole = _dry_run(module, shape, precision, chosen, few)
    for kind, depth in enumerate(depths):
        if depth > FEW:
            one_more = tuple(count + (kind == other) for other, count in enumerate(few))
            grown = _dry_run(module, shape, precision, chosen, one_more, base.context_tokens)
            whole = whole.plus(grown.plus(base, -1), depth - FEW)
    return whole


def _dry_run(
    module: LongVideoModule,
    shape: Shape,
    precision: Precision,
    recompute: Recompute,
    depths: tuple[int, ...],
    context: int | None = None,
) -> DryRun:
    """With so many blocks of each kind; `context` tokens are counted unless they are known."""
    lower = (
        nullcontext() if precision.autocast is None else torch.autocast("cpu", precision.autocast, cache_enabled=False)
    )
    with _without_data(shape.text_tokens):
        denoiser, head_only = _network(module, precision, recompute, depths)
        num_sections = 3 if head_only else 3 + module.objective.memory_sections
        batch = _batch(denoiser, shape, num_sections, precision.inputs)
        if not denoiser.backbone.config.distilled_guidance:  # a forcing that samples has two branches
            text = batch.conditioning.cut(slice(0, 1))
            given = batch.conditioning.guided(module.guidance_scale).away_from(text)
            batch = replace(batch, conditioning=given)
        flops: list[int] = []
        exchanged, group = [0], Pretended(module.context_parallel)
        if group.size > 1:
            denoiser.backbone.spread = Ulysses(group)
        with lower, LiveMemory() as memory, Operations() as counted:
            for section in module.objective.losses(denoiser, batch, KeyedNoise(0, 0)):
                section.loss.backward()
                del section
                flops.append(counted.total - sum(flops))
                exchanged.append(group.given_bytes)
                if len(flops) == 1:
                    memory.restart()  # from now on every gradient is there
        gradients = sum(p.grad.nbytes for p in denoiser.parameters() if p.grad is not None)
        if context is None:
            with lower:
                context = _context_tokens(denoiser, batch)
        state, step = _optimizer_bytes(module, denoiser, precision)
    sent = exchanged[-2] - exchanged[-3]  # of the last section whose result is carried on
    return DryRun(tuple(flops[:-1]), context, memory.peak - gradients, state, step, sent)


def count_context(config: DenoiserConfig, shape: Shape) -> int:
    """Tokens of history and memory that a section sees."""
    with _without_data(shape.text_tokens):
        denoiser = Denoiser(config)
        return _context_tokens(denoiser, _batch(denoiser, shape, 2, torch.float32))


class Pretended(Ranks):
    """The first of so many ranks without the others: what it gives is counted, and what it gets has no values."""

    def __init__(self, size: int):
        self.size, self.rank, self.given_bytes = size, 0, 0

    def exchange(self, numbers: Float[Tensor, " all"], received: list[int], sent: list[int]) -> Float[Tensor, " got"]:
        return _Exchange.apply(numbers, received, sent, self)


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, numbers: Tensor, received: list[int], sent: list[int], group: Pretended) -> Tensor:
        ctx.back = (sent, received, group)
        group.given_bytes += numbers.nbytes
        return numbers.new_empty(sum(received))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _Exchange.apply(gradient, *ctx.back), None, None, None


@contextmanager
def _without_data(text_tokens: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), attention.using("sdpa"), FakeTensorMode(), AssumedValues(text_tokens):
        yield


def _network(
    module: LongVideoModule, precision: Precision, recompute: Recompute, depths: tuple[int, ...]
) -> tuple[Denoiser, bool]:
    """The network, and whether its head alone trains."""
    config = module.denoiser_config
    denoiser = Denoiser(replace(config, backbone=config.backbone.with_depths(depths)))
    trainable = select_trainable(denoiser, module.train_patterns)
    frozen = module.frozen_dtype if precision.layers == torch.float32 else precision.layers
    for part in denoiser.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            dtype = precision.layers if parameter.requires_grad else frozen
            setattr(part, name, nn.Parameter(parameter.detach().to(dtype), parameter.requires_grad))
    if module.eight_bit is not None:
        store_blocks(denoiser.backbone, module.eight_bit)
    for block in denoiser.backbone.blocks:
        block.run = RECOMPUTE[recompute]
    return denoiser, trainable.head_only


def _batch(denoiser: Denoiser, shape: Shape, num_sections: int, dtype: torch.dtype) -> VideoBatch:
    widths, frames = denoiser.backbone.config.widths, denoiser.layout.section * num_sections

    def zeros(*sizes: int) -> Tensor:
        return torch.zeros(shape.videos, *sizes, dtype=dtype)

    text_mask = torch.ones(shape.videos, shape.text_tokens, dtype=torch.bool)
    return VideoBatch(
        start=zeros(widths.latents, 1, shape.rows, shape.columns),
        latents=zeros(widths.latents, frames, shape.rows, shape.columns),
        conditioning=Conditioning(
            zeros(shape.text_tokens, widths.text),
            text_mask,
            None if widths.pooled is None else zeros(widths.pooled),
            None if widths.image is None else zeros(shape.image_tokens, widths.image),
        ),
        num_sections=num_sections,
        uids=tuple(str(video) for video in range(shape.videos)),
        captions=("",) * shape.videos,
    )


def _optimizer_bytes(module: LongVideoModule, denoiser: Denoiser, precision: Precision) -> tuple[int, int]:
    """What the optimizer keeps, and what it needs besides while it steps."""
    named = denoiser.named_parameters()
    trained = [(n, nn.Parameter(p.detach().to(precision.weights))) for n, p in named if p.requires_grad]
    for _, parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = module.make_optimizer(trained)
    if isinstance(optimizer, AdamW8bit):  # which steps in kernels that need data
        return optimizer.state_bytes, 0
    with LiveMemory() as memory:
        optimizer.step()
    state = sum(_bytes(value) for values in optimizer.state.values() for value in values.values())
    return state, max(memory.peak - state, 0)


@torch.no_grad()
def _context_tokens(denoiser: Denoiser, batch: VideoBatch) -> int:
    past = denoiser.begin(batch.start, batch.conditioning, layout=denoiser.layout.for_video(3))
    for section in batch.latents.split(denoiser.layout.section, 2)[:2]:  # by then the memory has its size
        past = past.after(section)
    return past.pack().tokens.shape[1]


def _bytes(value: object) -> int:
    return value.nbytes if isinstance(value, Tensor) else 0
