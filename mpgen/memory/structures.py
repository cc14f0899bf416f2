"""How SemanticPack is wired (paper §6.3, Table 3) and what it starts from (Table 2). No parameters of their own."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mpgen.errors import UserError
from mpgen.memory.squeeze import ForgetfulSqueeze, GatedCell, Squeeze
from mpgen.tensors import MaskedTokens, concat

Attend = Callable[..., MaskedTokens]  # (query, key and value[, start=the start image's tokens]) -> attended


class Structure(ABC):
    """How a window of history changes the memory."""

    memory_asks: ClassVar[bool] = False
    """Whether the memory is Squeeze's query, or its key and value."""

    tokens_have_positions: ClassVar[bool]
    """Whether the memory's tokens are those of a window, time slowest, then rows and columns; else of the anchor."""

    def layer(self, width: int, heads: int, mlp_ratio: float) -> nn.Module:
        """What `update` is given as Squeeze."""
        return Squeeze(width, heads, mlp_ratio, self.memory_asks)

    @abstractmethod
    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        """The first memory, from the conditioning and the start image's window."""

    @abstractmethod
    def update(
        self, squeeze: Attend, window: MaskedTokens, memory: MaskedTokens, anchor: Callable[[], MaskedTokens]
    ) -> MaskedTokens:
        """The memory after `window`.

        Args:
            squeeze: the layer that the structures of the paper share.
            window: tokens from Memorize.
            memory: before it.
            anchor: makes the conditioning's tokens, for a structure that looks at them again.
        """


class Attending(Structure):
    """The paper's: one cross-attention between window and memory."""

    @abstractmethod
    def roles(self, window: MaskedTokens, memory: MaskedTokens) -> tuple[MaskedTokens, MaskedTokens]:
        """Query, and key and value, of the cross-attention."""

    def update(
        self, squeeze: Attend, window: MaskedTokens, memory: MaskedTokens, anchor: Callable[[], MaskedTokens]
    ) -> MaskedTokens:
        return squeeze(*self.roles(window, memory))


@dataclass(frozen=True)
class StructureA(Attending):
    """The paper's choice: text and image (then the memory) are key and value, the window's tokens ask."""

    tokens_have_positions = True

    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        return anchor

    def roles(self, window: MaskedTokens, memory: MaskedTokens) -> tuple[MaskedTokens, MaskedTokens]:
        return window, memory


@dataclass(frozen=True)
class StructureB(Attending):
    """Text and image (then the memory) ask, the window's tokens are key and value."""

    memory_asks = True
    tokens_have_positions = False

    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        return anchor

    def roles(self, window: MaskedTokens, memory: MaskedTokens) -> tuple[MaskedTokens, MaskedTokens]:
        return memory, window


@dataclass(frozen=True)
class StructureC(StructureB):
    """B, whose query also holds the tokens of the first window."""

    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        return concat(anchor, first_window)


@dataclass(frozen=True)
class Reminded(StructureA):
    """A, whose conditioning is key and value at every update and not only at the first (not in the paper)."""

    def update(
        self, squeeze: Attend, window: MaskedTokens, memory: MaskedTokens, anchor: Callable[[], MaskedTokens]
    ) -> MaskedTokens:
        return squeeze(squeeze(window, memory), anchor(), start=None)


@dataclass(frozen=True)
class Forgetting(StructureA):
    """A, whose memory can be forgotten: a learned gate takes its tokens towards an empty one before each window.

    The paper's psi is never emptied on purpose, which its authors name as a limit; the gate is our choice.
    """

    def layer(self, width: int, heads: int, mlp_ratio: float) -> nn.Module:
        return ForgetfulSqueeze(width, heads, mlp_ratio, self.memory_asks)


@dataclass(frozen=True)
class Recurrent(Structure):
    """A gated recurrent unit at each place in place of cross-attention (the question of a reviewer of the paper).

    It begins from the start image's tokens: text has no place.
    """

    tokens_have_positions = True

    def layer(self, width: int, heads: int, mlp_ratio: float) -> nn.Module:
        return GatedCell(width, mlp_ratio)

    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        return first_window

    def update(
        self, squeeze: Attend, window: MaskedTokens, memory: MaskedTokens, anchor: Callable[[], MaskedTokens]
    ) -> MaskedTokens:
        return squeeze(window, _in_steps_of(window, memory))


@dataclass(frozen=True)
class MovingAverage(Structure):
    """The cheap alternative (not in the paper): an exponential moving average of the windows' tokens, without Squeeze.

    Args:
        decay: what is kept of the memory at each window, in (0, 1).
    """

    tokens_have_positions = True

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise UserError(f"decay {self.decay}: wanted a number between 0 and 1")

    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        return first_window

    def update(
        self, squeeze: Attend, window: MaskedTokens, memory: MaskedTokens, anchor: Callable[[], MaskedTokens]
    ) -> MaskedTokens:
        before = _in_steps_of(window, memory).tokens
        return MaskedTokens(self.decay * before + (1 - self.decay) * window.tokens, window.mask, window.rotation)


def _in_steps_of(window: MaskedTokens, memory: MaskedTokens) -> MaskedTokens:
    """The memory with as many time steps as the window: the start image has one, a section some.

    Tokens stand in the order of time, rows, columns.
    """
    steps = window.tokens.shape[1] // memory.tokens.shape[1]
    return MaskedTokens(memory.tokens.repeat(1, steps, 1), memory.mask.repeat(1, steps))


class Anchor(ABC):
    """What the memory starts from."""

    @abstractmethod
    def __call__(self, conditioning: MaskedTokens) -> MaskedTokens: ...


@dataclass(frozen=True)
class ConditioningAnchor(Anchor):
    """The semantic anchor of §4.1.2: the features of prompt and start image."""

    def __call__(self, conditioning: MaskedTokens) -> MaskedTokens:
        return conditioning


@dataclass(frozen=True)
class ZeroAnchor(Anchor):
    """Zeros of the same shape (Table 2's zero-MemoryPack)."""

    def __call__(self, conditioning: MaskedTokens) -> MaskedTokens:
        return MaskedTokens(torch.zeros_like(conditioning.tokens), conditioning.mask)
