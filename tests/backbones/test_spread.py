"""Tokens split over ranks: each attention gets what it would get of all tokens, for any number of ranks.

The ranks are threads here; `tests/training/test_parallel.py` has processes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor

from mpgen.attention import observed
from mpgen.backbones.spread import Here, Ranks, Spread, Ulysses

STREAMS = (5, 8, 3)  # none can be divided by 2 and 3


class Threads(Ranks):
    """One of the threads that share `given`: what each gives to each."""

    def __init__(self, size: int, rank: int, given: dict, barrier: Barrier):
        self.size, self.rank, self.given, self.barrier = size, rank, given, barrier

    def exchange(self, numbers: Tensor, received: list[int], sent: list[int]) -> Tensor:
        return _Exchange.apply(numbers, received, sent, self)


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, numbers: Tensor, received: list[int], sent: list[int], ranks: Threads):
        ctx.sizes, ctx.ranks = (received, sent), ranks
        for to, part in enumerate(numbers.split(sent)):
            ranks.given[ranks.rank, to] = part
        ranks.barrier.wait()
        got = [ranks.given[rank, ranks.rank] for rank in range(ranks.size)]
        ranks.barrier.wait()
        assert [part.numel() for part in got] == received
        return torch.cat(got)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor):
        received, sent = ctx.sizes
        return _Exchange.apply(gradient, sent, received, ctx.ranks), None, None, None


def on_ranks(size: int, run: Callable[[Spread], Any]) -> list[Any]:
    """What each of so many ranks returns."""
    given, barrier = {}, Barrier(size, timeout=20)
    with ThreadPoolExecutor(size) as pool:
        started = [pool.submit(run, Ulysses(Threads(size, rank, given, barrier))) for rank in range(size)]
        return [future.result() for future in started]


def masks() -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    keys = torch.rand(2, 1, 1, sum(STREAMS), generator=generator) < 0.7
    keys[..., 0] = True
    blocks = torch.randint(0, 3, (sum(STREAMS),), generator=generator)
    return {"none": None, "keys": keys, "pairs": (blocks[:, None] >= blocks)[None, None]}


def mixed(spread: Spread, heads: int, mask: Tensor | None) -> list[Tensor]:
    """Every stream after attention, and the gradients of all of them before."""
    generator = torch.Generator().manual_seed(0)
    whole = [torch.randn(2, count, 3 * heads * 4, generator=generator).requires_grad_() for count in STREAMS]
    own = [spread.split(stream) for stream in whole]
    query, key, value = torch.cat(own, 1).unflatten(2, (3, heads, 4)).permute(2, 0, 3, 1, 4)
    out = spread.attention(mask, STREAMS)(query, key, value).split([part.shape[1] for part in own], 1)
    gathered = [spread.gather(part, count) for part, count in zip(out, STREAMS, strict=True)]
    weights = torch.randn(2, sum(STREAMS), heads * 4, generator=generator)
    (torch.cat(gathered, 1) * weights).sum().backward()
    return [*gathered, *(stream.grad for stream in whole)]


@pytest.mark.parametrize("mask", masks())
@pytest.mark.parametrize(("size", "heads"), [(2, 4), (3, 5)])
def test_attention_and_its_gradients_are_those_of_all_tokens_together(size, heads, mask):
    wanted = mixed(Here(), heads, masks()[mask])
    found = on_ranks(size, lambda spread: mixed(spread, heads, masks()[mask]))
    for rank in found:
        for got, right in zip(rank[:3], wanted[:3], strict=True):
            torch.testing.assert_close(got, right)
    for number, right in enumerate(wanted[3:], start=3):
        mean = torch.stack([rank[number] for rank in found]).mean(0)  # as copies and shards bring gradients together
        torch.testing.assert_close(mean, right)


def test_a_rank_has_its_part_of_the_heads_of_all_tokens():
    seen = []
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(2, 5, 8, 4, generator=generator)  # of 16 tokens, which are the same on both ranks
    with observed(lambda query, key, mask: seen.append(tuple(query.shape))):
        on_ranks(2, lambda spread: spread.attention(None, (16,))(own, own, own))
    assert sorted(seen) == [(2, 2, 16, 4), (2, 3, 16, 4)]
