"""Memories that keep the tokens of past windows as they are, and show the backbone those that a retrieval finds.

psi is a bank: the tokens of every window so far, one time step of tokens after another, up to a number of steps; then
the oldest after the first few goes. The start image, which is always in the context, is not in it. What is shown stands
where it stood, at the time of the start image, as with SemanticPack. Which tokens are shown is chosen once a section,
not at every query inside the backbone, which stays as it is (our choice in all of them).
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mpgen.backbones.base import Backbone, BackboneConfig
from mpgen.conditioning import Conditioning
from mpgen.errors import UserError
from mpgen.memory.base import LongTermMemory, MemoryConfig
from mpgen.memory.windows import WindowEmbedding, all_there
from mpgen.tensors import Latents, MaskedTokens, Still, Tokens

Steps = Float[Tensor, "b s m d"]  # time steps of a bank, the oldest first, and the tokens of each


@dataclass(frozen=True)
class Found:
    """What a retrieval shows.

    Args:
        places: which tokens, counted through the bank's time steps.
        score: logarithms whose gradient reaches what they were made from, though choosing has none; None without.
    """

    places: Int[Tensor, "b k"]
    score: Float[Tensor, "b k"] | None = None


@dataclass(frozen=True)
class BankConfig(MemoryConfig):
    """Sizes of a bank.

    Args:
        window_patch: latent frames, rows and columns in one token; multiples of the backbone's patch.
        steps: time steps of tokens that are kept at most.
        sink: the first so many are never evicted.
    """

    window_patch: tuple[int, int, int] = (3, 8, 8)
    steps: int = 96
    sink: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.sink < self.steps:
            raise UserError(
                f"memory.sink {self.sink} of {self.steps} steps: wanted fewer than memory.steps, and 0 at least"
            )


class Bank(LongTermMemory):
    """Tokens of past windows, of which a subclass finds some."""

    num_asks: ClassVar[int] = 0
    """Tokens at the beginning of psi that are asked with and never shown."""

    def __init__(self, config: BankConfig, backbone: BackboneConfig):
        super().__init__()
        self.sizes = config
        self.width = backbone.width
        self.embedding = WindowEmbedding(backbone, config.window_patch)

    def initialise_from(self, backbone: Backbone) -> None:
        self.embedding.initialise_from(backbone)

    def asks(self, conditioning: Conditioning) -> Tokens:
        """What is asked with, where the windows do not say."""
        return conditioning.text.new_zeros(len(conditioning.text), 0, self.width)

    @abstractmethod
    def find(self, asks: Tokens, bank: Steps) -> Found:
        """What of a bank of at least one step is shown."""

    def seed(self, conditioning: Conditioning, start: Still) -> MaskedTokens:
        return all_there(self.asks(conditioning))

    def update(self, psi: MaskedTokens, section: Latents, conditioning: Conditioning) -> MaskedTokens:
        window = self.embedding.tokens(section)
        asks, bank = psi.tokens[:, : self.num_asks], torch.cat([psi.tokens[:, self.num_asks :], window], 1)
        rows, columns = self.embedding.grid(section)
        first, most = self.sizes.sink * rows * columns, self.sizes.steps * rows * columns
        evicted = max(0, bank.shape[1] - most)
        return all_there(torch.cat([asks, bank[:, :first], bank[:, first + evicted :]], 1))

    def tokens(self, psi: MaskedTokens, start: Still) -> MaskedTokens:
        rows, columns = self.embedding.grid(start)
        asks, bank = psi.tokens[:, : self.num_asks], psi.tokens[:, self.num_asks :]
        rotation = self.embedding.at_start(bank, start)
        if not bank.shape[1]:
            return replace(all_there(bank), rotation=rotation)
        found = self.find(asks, rearrange(bank, "b (s n) d -> b s n d", n=rows * columns))
        tokens, rotation = (x.gather(1, found.places[..., None].expand(-1, -1, x.shape[2])) for x in (bank, rotation))
        if found.score is not None:
            tokens = tokens * (1 + found.score - found.score.detach())[..., None]
        return replace(all_there(tokens), rotation=rotation)


def whole_steps(steps: Int[Tensor, "b k"], num_tokens: int) -> Int[Tensor, "b k*{num_tokens}"]:
    """The places of all tokens of these time steps."""
    return (steps[..., None] * num_tokens + torch.arange(num_tokens, device=steps.device)).flatten(1)


def best_steps(score: Float[Tensor, "b s"], number: int, num_tokens: int, learned: bool = False) -> Found:
    """The tokens of the time steps with the highest score, or of all if there are fewer; in the order of time."""
    chosen = score.topk(min(number, score.shape[1]), 1).indices.sort(1).values
    logs = score.log_softmax(1).gather(1, chosen).repeat_interleave(num_tokens, 1) if learned else None
    return Found(whole_steps(chosen, num_tokens), logs)


@dataclass(frozen=True)
class SinkAndTopK(BankConfig):
    """The first windows, and the tokens of the others that the newest window attends to most.

    After Deep Forcing's participative compression (arXiv 2512.05081) and the sinks of StreamingLLM (2309.17453); there
    the attention is the backbone's own, here that of one learned layer, which begins as plain similarity.

    Args:
        top_k: tokens that are shown beside the sink's.
    """

    top_k: int = 64

    def build(self, backbone: BackboneConfig) -> "SinkAndTopKMemory":
        return SinkAndTopKMemory(self, backbone)


class SinkAndTopKMemory(Bank):
    """Queries are the newest window's tokens; a token weighs as much as the mean of their attention to it."""

    def __init__(self, config: SinkAndTopK, backbone: BackboneConfig):
        super().__init__(config, backbone)
        self.top_k = config.top_k
        self.to_q = nn.Linear(backbone.width, backbone.width)
        self.to_k = nn.Linear(backbone.width, backbone.width)
        for layer in (self.to_q, self.to_k):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)

    def find(self, asks: Tokens, bank: Steps) -> Found:
        b, steps, num_tokens, d = bank.shape
        sink = min(self.sizes.sink, steps)
        always = torch.arange(sink * num_tokens, device=bank.device).expand(b, -1)
        others = rearrange(bank[:, sink : steps - 1], "b s n d -> b (s n) d")
        if not others.shape[1]:
            return Found(always)
        normed, newest = (F.layer_norm(x, (d,)) for x in (others, bank[:, -1]))
        attention = (self.to_q(newest) @ self.to_k(normed).mT / d**0.5).softmax(-1).mean(1)
        chosen = attention.topk(min(self.top_k, others.shape[1]), 1).indices.sort(1).values
        score = attention.gather(1, chosen).clamp(min=1e-12).log()
        places = torch.cat([always, chosen + always.shape[1]], 1)
        return Found(places, torch.cat([score.new_zeros(b, always.shape[1]), score], 1))


@dataclass(frozen=True)
class Routed(BankConfig):
    """Routing over mean-pooled chunks: those whose mean is nearest to the newest window's (MoC, arXiv 2508.21058).

    As there, the router has no weights of its own and learns through what it shows. A chunk is one time step of
    tokens; there every query is routed by itself.

    Args:
        top_k: chunks that are shown.
    """

    top_k: int = 2

    def build(self, backbone: BackboneConfig) -> "RoutedMemory":
        return RoutedMemory(self, backbone)


class RoutedMemory(Bank):
    """The newest step, which FramePack shows, routes and is not routed to."""

    def __init__(self, config: Routed, backbone: BackboneConfig):
        super().__init__(config, backbone)
        self.top_k = config.top_k

    def find(self, asks: Tokens, bank: Steps) -> Found:
        means = bank.mean(2)
        older = means[:, :-1] if means.shape[1] > 1 else means
        return best_steps((older * means[:, -1:]).sum(-1), self.top_k, bank.shape[2])


@dataclass(frozen=True)
class PromptRetrieved(BankConfig):
    """Retrieval by the prompt: windows whose mean is nearest to the text's (MemFlow, arXiv 2512.14699).

    There the text's queries and the windows' keys are those of the backbone's attention; here one learned layer each.

    Args:
        top_k: time steps that are shown.
    """

    top_k: int = 1

    def build(self, backbone: BackboneConfig) -> "PromptRetrievedMemory":
        return PromptRetrievedMemory(self, backbone)


class PromptRetrievedMemory(Bank):
    """The mean of the prompt's tokens asks; a new prompt makes psi, and with it what is asked, anew."""

    num_asks = 1

    def __init__(self, config: PromptRetrieved, backbone: BackboneConfig):
        super().__init__(config, backbone)
        self.top_k = config.top_k
        self.text_in = nn.Linear(backbone.widths.text, backbone.width)
        self.to_k = nn.Linear(backbone.width, backbone.width)

    def asks(self, conditioning: Conditioning) -> Tokens:
        there = conditioning.text_mask[..., None]
        return self.text_in((conditioning.text * there).sum(1, keepdim=True) / there.sum(1, keepdim=True))

    def find(self, asks: Tokens, bank: Steps) -> Found:
        keys = self.to_k(F.layer_norm(bank, bank.shape[-1:]).mean(2))
        return best_steps((keys * asks).sum(-1) / bank.shape[-1] ** 0.5, self.top_k, bank.shape[2], learned=True)
