"""Memories without a choice: all of the far past in coarse tokens, or folded into one window."""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import nn

from mpgen.backbones.base import Backbone, BackboneConfig
from mpgen.backbones.patches import pad_to_multiple
from mpgen.backbones.rope import flatten_rotation, pool_rotation, rotation_grid
from mpgen.conditioning import Conditioning
from mpgen.errors import UserError
from mpgen.memory.base import LongTermMemory, MemoryConfig
from mpgen.memory.windows import WindowEmbedding, all_there
from mpgen.tensors import Latents, MaskedTokens, Still

PACKED = 4  # times along every axis: FramePack's coarsest embedding of history


@dataclass(frozen=True)
class FarHistory(MemoryConfig):
    """Compressed far history: every window in a few coarse tokens, the latest of them in order (FAR, arXiv 2503.19325).

    FAR embeds its long-term context with a larger patch of its own; here that is a copy of the backbone's 4x embedding,
    which then learns. Times count back from the start image's (our choice).

    Args:
        windows: that are kept.
    """

    windows: int = 16

    def __post_init__(self) -> None:
        if self.windows < 1:
            raise UserError(f"memory.windows {self.windows}: wanted 1 at least")

    def build(self, backbone: BackboneConfig) -> "FarHistoryMemory":
        return FarHistoryMemory(self, backbone)


class FarHistoryMemory(LongTermMemory):
    """psi is the tokens of the latest windows; the start image, which is always in the context, is not among them."""

    def __init__(self, config: FarHistory, backbone: BackboneConfig):
        super().__init__()
        self.windows, self.backbone = config.windows, backbone
        patch = tuple(PACKED * side for side in backbone.patch)
        self.embedding = nn.Conv3d(backbone.widths.latents, backbone.width, patch, patch)

    def initialise_from(self, backbone: Backbone) -> None:
        self.embedding.load_state_dict(backbone.history_kernel(PACKED).state_dict())

    def seed(self, conditioning: Conditioning, start: Still) -> MaskedTokens:
        return all_there(start.new_zeros(len(start), 0, self.backbone.width))

    def update(self, psi: MaskedTokens, section: Latents, conditioning: Conditioning) -> MaskedTokens:
        patches = self.embedding(pad_to_multiple(section, self.embedding.kernel_size))
        window = rearrange(patches, "b d t y x -> b (t y x) d")
        return all_there(torch.cat([psi.tokens, window], 1)[:, -self.windows * window.shape[1] :])

    def tokens(self, psi: MaskedTokens, start: Still) -> MaskedTokens:
        rows, columns = (-(-size // side) for size, side in zip(start.shape[3:], self.backbone.patch[1:], strict=True))
        steps = psi.tokens.shape[1] // (-(-rows // PACKED) * -(-columns // PACKED))
        times = torch.arange(-PACKED * steps, 0, device=start.device).expand(len(start), -1)
        if not steps:
            times = times.new_zeros(len(start), PACKED)  # of no token
        grid = pool_rotation(rotation_grid(times, rows, columns, self.backbone.rope_axes, self.backbone.theta), PACKED)
        return replace(psi, rotation=flatten_rotation(grid)[:, : psi.tokens.shape[1]])


@dataclass(frozen=True)
class EmaSink(MemoryConfig):
    """Evicted tokens folded into a sink by a moving average (Reward Forcing, arXiv 2512.04678).

    The sink is the start image's tokens at first. A window is evicted where the short-term context no longer sees it;
    there keys and values are folded, here tokens before the first layer (our choice).

    Args:
        window_patch: latent frames, rows and columns in one token; multiples of the backbone's patch.
        decay: what is kept of the sink at each eviction, in (0, 1).
        near: time steps of tokens that the short-term context still sees.
    """

    window_patch: tuple[int, int, int] = (3, 8, 8)
    decay: float = 0.9
    near: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1 or self.near < 0:
            raise UserError(
                f"memory.decay {self.decay}, near {self.near}: wanted a decay in (0, 1) and 0 steps at least"
            )

    def build(self, backbone: BackboneConfig) -> "EmaSinkMemory":
        return EmaSinkMemory(self, backbone)


class EmaSinkMemory(LongTermMemory):
    """psi is the sink, then the time steps that are not evicted yet, which are not shown."""

    def __init__(self, config: EmaSink, backbone: BackboneConfig):
        super().__init__()
        self.decay, self.near = config.decay, config.near
        self.embedding = WindowEmbedding(backbone, config.window_patch)

    def initialise_from(self, backbone: Backbone) -> None:
        self.embedding.initialise_from(backbone)

    def seed(self, conditioning: Conditioning, start: Still) -> MaskedTokens:
        return all_there(self.embedding.tokens(start))

    def update(self, psi: MaskedTokens, section: Latents, conditioning: Conditioning) -> MaskedTokens:
        rows, columns = self.embedding.grid(section)
        steps = list(torch.cat([psi.tokens, self.embedding.tokens(section)], 1).split(rows * columns, 1))
        sink, waiting = steps[0], steps[1:]
        while len(waiting) > self.near:
            sink = torch.lerp(waiting.pop(0), sink, self.decay)
        return all_there(torch.cat([sink, *waiting], 1))

    def tokens(self, psi: MaskedTokens, start: Still) -> MaskedTokens:
        rows, columns = self.embedding.grid(start)
        sink = psi.tokens[:, : rows * columns]
        return replace(all_there(sink), rotation=self.embedding.at_start(sink, start))
