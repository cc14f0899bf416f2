"""Steps that cost less: where the blocks would add nearly what they added in the step before, that is added again.

A cache sits in the backbone's blocks while a section is denoised and begins anew with each, so no section knows of
another's. It knows a block as something that takes its streams of tokens first and gives them back, so it serves every
backbone. A batch, and both branches of guidance, skip together. A new cache is a class and a line in `CACHES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from mpgen.backbones.recompute import Block
from mpgen.tensors import Tokens


@dataclass(frozen=True)
class Caching:
    """Which cache, in plain values.

    Args:
        name: one of `CACHES`.
        threshold: how much change is still taken for none; 0 skips nothing. The cache's usual one if None.
        ratios: MagCache's, one for each step of the section that they were measured on.
    """

    name: str
    threshold: float | None = None
    ratios: tuple[float, ...] = ()

    def begin(self, steps: int) -> "StepCache":
        """The cache of one section that is denoised in so many steps."""
        kind = CACHES[self.name]
        return kind(kind.usual_threshold if self.threshold is None else self.threshold, self.ratios, steps)


@dataclass
class Forwards:
    """What the caches of a video's sections came to.

    Args:
        computed: forwards through all blocks.
        skipped: forwards that were spared.
        ratios: what a calibration measured, a row for each section.
    """

    computed: int = 0
    skipped: int = 0
    ratios: list[list[float]] = field(default_factory=list)

    @property
    def mean_ratios(self) -> list[float]:
        """Over the sections, for each step."""
        return [sum(column) / len(column) for column in zip(*self.ratios, strict=True)]


class StepCache(ABC):
    """Says of each step of a section whether its blocks are skipped.

    Args:
        threshold: see `Caching`.
        ratios: likewise.
        steps: of the section.
    """

    usual_threshold: ClassVar[float]
    after_first_block: ClassVar[bool]
    """Whether it decides by what the first block adds, which then runs in every step."""

    def __init__(self, threshold: float, ratios: Sequence[float], steps: int):
        self.threshold, self.ratios, self.steps = threshold, ratios, steps
        self.measured: list[float] = []
        """What the step's blocks added over what they had added before, for calibrations."""

    @abstractmethod
    def skips(self, change: Tokens | None) -> bool:
        """Whether the step, the next one of the section, skips its blocks.

        Args:
            change: what the first block added to the tokens of context and section; None before it ran.
        """

    def computed(self, added: Tokens) -> None:  # noqa: B027 - most need not know
        """Stores the residual of all blocks, or of those after the first, of a step that was not skipped."""


class FirstBlockCache(StepCache):
    """Skips while the first block adds nearly what it added in the last step that was computed (ParaAttention)."""

    usual_threshold = 0.05
    after_first_block = True
    before: Tokens | None = None

    def skips(self, change: Tokens | None) -> bool:
        assert change is not None
        if self.before is not None:
            difference = (change - self.before).abs().mean() / self.before.abs().mean()
            if float(difference) <= self.threshold:
                return True
        self.before = change
        return False


class MagCache(StepCache):
    """Skips while the error that measured ratios of magnitudes predict, summed up, stays small (arXiv 2506.09045).

    At most three steps in a row, and none in the first fifth: the paper's and diffusers' numbers.
    """

    usual_threshold = 0.06
    after_first_block = False
    MAX_SKIPS, RETENTION = 3, 0.2

    def __init__(self, threshold: float, ratios: Sequence[float], steps: int):
        super().__init__(threshold, _nearest(ratios, steps), steps)
        self.step = 0
        self._restart()

    def _restart(self) -> None:
        self.ratio, self.error, self.skipped = 1.0, 0.0, 0

    def skips(self, change: Tokens | None) -> bool:
        step, self.step = self.step, self.step + 1
        if step < int(self.RETENTION * self.steps + 0.5):
            return False
        self.ratio *= self.ratios[step]
        self.skipped += 1
        self.error += abs(1 - self.ratio)
        if step > 0 and self.error <= self.threshold and self.skipped <= self.MAX_SKIPS:
            return True
        self._restart()
        return False


class MagCalibration(StepCache):
    """Skips nothing, and measures MagCache's ratios: how much longer what the blocks add is than a step before."""

    usual_threshold = 0.0
    after_first_block = False
    before: Tokens | None = None

    def skips(self, change: Tokens | None) -> bool:
        return False

    def computed(self, added: Tokens) -> None:
        length = torch.linalg.norm(added.float(), dim=-1)
        self.measured.append(1.0 if self.before is None else float((length / (self.before + 1e-8)).mean()))
        self.before = length


CACHES: dict[str, type[StepCache]] = {
    "first_block": FirstBlockCache,
    "mag": MagCache,
    "mag_calibrate": MagCalibration,
}


@contextmanager
def cached(
    blocks: Iterable[Block], caching: Caching | None, steps: int, num_tokens: int, forwards: Forwards
) -> Iterator[None]:
    """Inside, forwards of the network skip these blocks where the cache of a section says so.

    Args:
        blocks: all of a backbone.
        caching: which cache; None for none.
        steps: of the section.
        num_tokens: of context and section, which stand first among the tokens.
        forwards: counts them.
    """
    if caching is None:
        yield
        return
    cache, blocks = caching.begin(steps), list(blocks)
    shared = _Skipping(cache, len(blocks), num_tokens, forwards)
    before = [block.run for block in blocks]
    for number, block in enumerate(blocks):
        block.run = partial(shared.run, number)
    try:
        yield
    finally:
        for block, run in zip(blocks, before, strict=True):
            block.run = run
    if cache.measured:
        forwards.ratios.append(cache.measured)


class _Skipping:
    """What the blocks of a backbone do in turn: compute, or hand their streams on."""

    def __init__(self, cache: StepCache, num_blocks: int, num_tokens: int, forwards: Forwards):
        self.cache, self.num_blocks, self.num_tokens, self.forwards = cache, num_blocks, num_tokens, forwards
        self.num_streams = [0] * num_blocks  # known once each has run
        self.skipping = False
        self.base: Tensor  # all streams in one, from where `added` is counted
        self.added: Tensor

    def run(self, number: int, compute: Callable[..., Any], *inputs: Any) -> Any:
        if number == 0:
            streams = self._begin(compute, inputs)
        elif self.skipping:
            streams = inputs[: self.num_streams[number]]
        else:
            streams = self._compute(number, compute, inputs)
        if number == self.num_blocks - 1 and not self.skipping:
            self.added = torch.cat(streams, 1) - self.base
            self.cache.computed(self.added[:, : self.num_tokens])
        return streams if len(streams) > 1 else streams[0]

    def _begin(self, compute: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """The first block; where the others are skipped it gives what they would."""
        if self.cache.after_first_block:
            streams = self._compute(0, compute, inputs)
            self.base = torch.cat(streams, 1)
            change = self.base - torch.cat(inputs[: len(streams)], 1)
            self.skipping = self.cache.skips(change[:, : self.num_tokens])
        else:
            self.skipping = self.cache.skips(None)
            streams = inputs[: self.num_streams[0]] if self.skipping else self._compute(0, compute, inputs)
            self.base = torch.cat(inputs[: len(streams)], 1)
        if not self.skipping:
            self.forwards.computed += 1
            return streams
        self.forwards.skipped += 1
        return (self.base + self.added).split([stream.shape[1] for stream in streams], 1)

    def _compute(self, number: int, compute: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        output = compute(*inputs)
        streams = output if isinstance(output, tuple) else (output,)
        self.num_streams[number] = len(streams)
        return streams


def _nearest(ratios: Sequence[float], steps: int) -> list[float]:
    """The ratios for another number of steps, each the nearest one."""
    if steps == 1:
        return [ratios[-1]]
    return [ratios[round(step * (len(ratios) - 1) / (steps - 1))] for step in range(steps)]
