"""Where the tokens of a forward are: all on one rank, or split over several (context parallelism).

DeepSpeed-Ulysses (arXiv 2309.14509): a rank has some tokens of every stream with all their heads; for attention it gets
some heads of all tokens instead, and gives them back. All else in a block is done token by token. Each rank of a group
must be given the same videos and gets the whole result. Then the mean of the ranks' losses is the loss, and the mean of
their gradients is its gradient, so that nothing else of a step knows of it.

Communication is one operation, torch's `all_to_all_single_autograd`, with parts of unequal sizes: neither tokens nor
heads need to be divisible by the ranks, and there is no padding, which would need a mask. Not
`torch.distributed.tensor.experimental.context_parallel`, a ring without masks, nor diffusers' Ulysses, whose attention
takes no mask with uneven parts and asks other ranks for their sizes at every call.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed._functional_collectives import all_to_all_single_autograd

from mpgen.attention import Heads, Mask, attend
from mpgen.errors import UserError

Joined = Float[Tensor, "b n e"]
Attend = Callable[[Heads, Heads, Heads], Joined]


class Spread(ABC):
    """Where the tokens are."""

    @abstractmethod
    def split(self, stream: Float[Tensor, "b n *d"]) -> Float[Tensor, "b own *d"]:
        """This rank's tokens of a stream."""

    @abstractmethod
    def gather(self, own: Float[Tensor, "b own d"], count: int) -> Float[Tensor, "b {count} d"]:
        """All `count` tokens of a stream, on every rank."""

    @abstractmethod
    def attention(self, mask: Mask, streams: Sequence[int]) -> Attend:
        """Attention of all tokens to all that the mask allows.

        Args:
            mask: over whole streams, one after the other.
            streams: how many tokens each has; ranks have their own of each, in this order.
        """


class Here(Spread):
    """All tokens are on this rank."""

    def split(self, stream: Float[Tensor, "b n *d"]) -> Float[Tensor, "b n *d"]:
        return stream

    def gather(self, own: Float[Tensor, "b n d"], count: int) -> Float[Tensor, "b n d"]:
        return own

    def attention(self, mask: Mask, streams: Sequence[int]) -> Attend:
        return partial(attend, mask=mask)


class Ranks(ABC):
    """Those that share the tokens.

    Args:
        size: how many.
        rank: which of them this one is.
    """

    size: int
    rank: int

    @abstractmethod
    def exchange(self, numbers: Float[Tensor, " all"], received: list[int], sent: list[int]) -> Float[Tensor, " got"]:
        """Gives each rank `sent[rank]` of the numbers, in turn, and returns what each gave; gradients go back."""


class Group(Ranks):
    """The processes of a group."""

    def __init__(self, group: dist.ProcessGroup):
        self.group, self.size, self.rank = group, group.size(), group.rank()

    def exchange(self, numbers: Float[Tensor, " all"], received: list[int], sent: list[int]) -> Float[Tensor, " got"]:
        return all_to_all_single_autograd(numbers, received, sent, self.group)


@dataclass(frozen=True)
class Ulysses(Spread):
    """Every rank has its part of each stream, and in attention its part of the heads."""

    ranks: Ranks

    def split(self, stream: Float[Tensor, "b n *d"]) -> Float[Tensor, "b own *d"]:
        return stream.tensor_split(self.ranks.size, 1)[self.ranks.rank]

    def gather(self, own: Float[Tensor, "b own d"], count: int) -> Float[Tensor, "b {count} d"]:
        b, _, d = own.shape
        return self._exchanged([own] * self.ranks.size, [(b, n, d) for n in self._shares(count)], 1)

    def attention(self, mask: Mask, streams: Sequence[int]) -> Attend:
        shares = [self._shares(count) for count in streams]
        tokens = [sum(share[rank] for share in shares) for rank in range(self.ranks.size)]
        return partial(self._attend, mask=mask if mask is None else self._in_order(mask, streams), tokens=tokens)

    def _attend(
        self, query: Heads, key: Heads, value: Heads, mask: Bool[Tensor, "#b 1 #all all"] | None, tokens: list[int]
    ) -> Joined:
        b, h, _, e = query.shape
        heads, rank = self._shares(h), self.ranks.rank
        stacked = torch.stack([query, key, value])
        parts = [(3, b, heads[rank], n, e) for n in tokens]
        mine = self._exchanged(stacked.tensor_split(self.ranks.size, 2), parts, 3)
        mixed = attend(*mine, mask)
        return self._exchanged(mixed.split(tokens, 1), [(b, tokens[rank], own * e) for own in heads], 2)

    def _exchanged(self, parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], dim: int) -> Tensor:
        """Gives each rank a part, and joins those of these shapes that it gets."""
        sizes = [torch.Size(shape).numel() for shape in shapes]
        flat = torch.cat([part.flatten() for part in parts])
        got = self.ranks.exchange(flat, sizes, [part.numel() for part in parts])
        return torch.cat([part.view(shape) for part, shape in zip(got.split(sizes), shapes, strict=True)], dim)

    def _in_order(self, mask: Tensor, streams: Sequence[int]) -> Tensor:
        """The mask of tokens as attention has them: each rank's of every stream, then the next rank's."""
        whole = torch.arange(sum(streams), device=mask.device).split(list(streams))
        parts = [stream.tensor_split(self.ranks.size) for stream in whole]
        order = torch.cat([part[rank] for rank in range(self.ranks.size) for part in parts])
        of_keys = mask[..., order]
        return of_keys if mask.shape[2] == 1 else of_keys[:, :, order]

    def _shares(self, count: int) -> list[int]:
        """How many of so many each rank has, as `tensor_split` does it."""
        return [count // self.ranks.size + (rank < count % self.ranks.size) for rank in range(self.ranks.size)]


def tokens_over(size: int, heads: int) -> Spread:
    """Tokens split over groups of so many processes next to each other; every one of them must ask for it.

    Raises:
        UserError: the processes, or the heads, are not enough for it.
    """
    check_shares(size, dist.get_world_size() if dist.is_initialized() else 1, heads)
    group, _ = dist.new_subgroups(size)
    return Ulysses(Group(group))


def check_shares(size: int, processes: int, heads: int) -> None:
    """Whether groups of so many of the processes can share tokens, and each of them have heads.

    Raises:
        UserError: they cannot.
    """
    if size < 1 or processes % size or heads < size:
        raise UserError(
            f"context_parallel {size} with {processes} process(es) and {heads} heads: wanted a divisor of the "
            "processes (trainer.devices times num_nodes, or torchrun's), at most the heads"
        )
