"""A memory of one's own: a config, which configs/examples/own.yaml names, and its layers."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mpgen.backbones.base import BackboneConfig
from mpgen.backbones.rope import placeless
from mpgen.conditioning import Conditioning
from mpgen.memory.base import LongTermMemory, MemoryConfig
from mpgen.tensors import Latents, MaskedTokens, Still


@dataclass(frozen=True)
class RunningMean(MemoryConfig):
    """A running mean of coarse pictures of the past.

    Args:
        keep: share of the old mean that stays, in [0, 1].
        grid: rows and columns of the coarse pictures, a token each.
    """

    keep: float = 0.9
    grid: tuple[int, int] = (4, 4)

    def build(self, backbone: BackboneConfig) -> "RunningMeanMemory":
        return RunningMeanMemory(self, backbone)


class RunningMeanMemory(LongTermMemory):
    """psi is a mean of embedded pictures; only the embedding is learned."""

    def __init__(self, config: RunningMean, backbone: BackboneConfig):
        super().__init__()
        self.config, self.head_dim = config, backbone.head_dim
        self.embed = nn.Linear(backbone.widths.latents, backbone.width)

    def seed(self, conditioning: Conditioning, start: Still) -> MaskedTokens:
        tokens = self._embedded(start)
        return MaskedTokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def update(self, psi: MaskedTokens, section: Latents, conditioning: Conditioning) -> MaskedTokens:
        return replace(psi, tokens=torch.lerp(self._embedded(section), psi.tokens, self.config.keep))

    def tokens(self, psi: MaskedTokens, start: Still) -> MaskedTokens:
        return replace(psi, rotation=placeless(psi.tokens, self.head_dim))

    def _embedded(self, latents: Latents) -> Tensor:
        coarse = F.adaptive_avg_pool3d(latents, (1, *self.config.grid))
        return self.embed(rearrange(coarse, "b c t y x -> b (t y x) c"))
