"""FramePack: the latest latent frames, packed at 1x, 2x and 4x, are the short-term context (arXiv 2504.12626, F1).

The window is fixed, so a section costs the same however long the video is. Slots before the start of the video hold
zero latents and are not masked: the released weights were trained so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from mpgen.dit.model import Context, DiT
from mpgen.dit.rope import flatten_rotation, pool_rotation
from mpgen.sections import Forward, FrameIndex
from mpgen.tensors import FrameIndices, Latents, Still


@dataclass(frozen=True)
class History:
    """The sections already there, as far back as the short-term context reaches.

    Args:
        start: latents of the start image, encoded alone.
        recent: the latest `layout.history` latent frames, zeros before the start image.
        numbers: which section comes next, for each video of the batch.
    """

    start: Still
    recent: Latents
    numbers: tuple[int, ...]

    @classmethod
    def begin(cls, start: Still, layout: Forward) -> "History":
        """Only the start image is there."""
        b, c, _, h, w = start.shape
        return cls(start, torch.cat([start.new_zeros(b, c, layout.history - 1, h, w), start], 2), (0,) * b)

    def append(self, section: Latents) -> "History":
        """The history after `section`, which keeps as many frames as before."""
        kept = self.recent.shape[2]
        return replace(
            self,
            recent=torch.cat([self.recent, section], 2)[:, :, -kept:],
            numbers=tuple(number + 1 for number in self.numbers),
        )


def pack_history(dit: DiT, history: History, layout: Forward, frame_index: FrameIndex) -> Context:
    """The short-term context as tokens: `[4x | 2x | start, 1x]`, oldest first."""
    embed = dit.clean_x_embedder
    device = history.start.device
    indices = [frame_index.indices(layout, number) for number in history.numbers]
    at_4x, at_2x, at_1x = history.recent.split([layout.history_4x, layout.history_2x, layout.history_1x], 2)
    clean = torch.cat([history.start, at_1x], 2)

    tokens, rotations = [], []
    for latents, embed_level, kernel, rows in (
        (at_4x, embed.embed_4x, 4, [i.history_4x for i in indices]),
        (at_2x, embed.embed_2x, 2, [i.history_2x for i in indices]),
        (clean, embed.embed_1x, 1, [i.start + i.history_1x for i in indices]),
    ):
        if latents.shape[2]:
            tokens.append(embed_level(latents))
            _, height, width = dit.grid(latents)
            rotations.append(
                flatten_rotation(pool_rotation(dit.rotation_grid(_table(rows, device), height, width), kernel))
            )
    joined = torch.cat(tokens, 1)
    return Context(
        tokens=joined,
        rotation=torch.cat(rotations, 1),
        mask=torch.ones(joined.shape[:2], dtype=torch.bool, device=device),
        section_indices=_table([i.section for i in indices], device),
    )


def _table(rows: Sequence[tuple[int, ...]], device: torch.device) -> FrameIndices:
    return torch.tensor(rows, device=device)
