"""How SemanticPack is wired (paper §6.3, Table 3) and what it starts from (Table 2). No parameters: one state dict."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from mpgen.tensors import MaskedTokens, concat


class Structure(ABC):
    """Who asks and who answers in Squeeze."""

    @abstractmethod
    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        """The first memory, from the guidance and the start image's window."""

    @abstractmethod
    def roles(self, window: MaskedTokens, memory: MaskedTokens) -> tuple[MaskedTokens, MaskedTokens]:
        """Query, and key and value, of the cross-attention."""


@dataclass(frozen=True)
class StructureA(Structure):
    """The paper's choice: text and image (then the memory) are key and value, the window's tokens ask."""

    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        return anchor

    def roles(self, window: MaskedTokens, memory: MaskedTokens) -> tuple[MaskedTokens, MaskedTokens]:
        return window, memory


@dataclass(frozen=True)
class StructureB(Structure):
    """Text and image (then the memory) ask, the window's tokens are key and value."""

    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        return anchor

    def roles(self, window: MaskedTokens, memory: MaskedTokens) -> tuple[MaskedTokens, MaskedTokens]:
        return memory, window


@dataclass(frozen=True)
class StructureC(StructureB):
    """B, whose query also holds the tokens of the first window."""

    def seed(self, anchor: MaskedTokens, first_window: MaskedTokens) -> MaskedTokens:
        return concat(anchor, first_window)


class Anchor(ABC):
    """What the memory starts from."""

    @abstractmethod
    def __call__(self, guidance: MaskedTokens) -> MaskedTokens: ...


@dataclass(frozen=True)
class GuidanceAnchor(Anchor):
    """The semantic anchor of §4.1.2: the features of prompt and start image."""

    def __call__(self, guidance: MaskedTokens) -> MaskedTokens:
        return guidance


@dataclass(frozen=True)
class ZeroAnchor(Anchor):
    """Zeros of the same shape (Table 2's zero-MemoryPack)."""

    def __call__(self, guidance: MaskedTokens) -> MaskedTokens:
        return MaskedTokens(torch.zeros_like(guidance.tokens), guidance.mask)
