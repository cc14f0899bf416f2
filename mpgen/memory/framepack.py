"""FramePack: the nearest latent frames, packed at 1x, 2x and 4x, are the short-term context (arXiv 2504.12626).

The window is fixed, so a section costs the same however long the video is. Slots beyond the ends of the video hold
zero latents and are not masked: the released weights were trained so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpgen.backbones.base import Backbone, Context
from mpgen.backbones.rope import flatten_rotation, pool_rotation
from mpgen.errors import UserError
from mpgen.sections import FrameIndex, Layout
from mpgen.tensors import FrameIndices, Latents, Still


@dataclass(frozen=True)
class History:
    """The sections already there, as far as the short-term context reaches.

    Args:
        start: latents of the start image, encoded alone.
        recent: the `layout.history` latent frames nearest to the next section, in the order of time, zeros where there
            are none.
        numbers: which section comes next, for each video of the batch, in the order they are made.
        layout: which order that is.
        end: latents of the image that the video shall end with. Only the section that touches it is shown it, in the
            nearest slot; afterwards it is forgotten, as in the released pipeline.
        blank: there is no start image: zeros stand in its place until the first section is there, whose first latent
            frame, which is a still, then takes it, as in Helios.
    """

    start: Still
    recent: Latents
    numbers: tuple[int, ...]
    layout: Layout
    end: Still | None = None
    blank: bool = False

    @classmethod
    def begin(cls, start: Still, layout: Layout, end: Still | None = None, blank: bool = False) -> "History":
        """Only the start image is there; if `blank`, nothing is, and `start` is zeros."""
        assert not blank or layout.alone, f"{layout}: a section must begin with a still to stand in for the start image"
        assert end is None or layout.takes_end_image, f"{layout} has no place for an end image"
        b, c, _, h, w = start.shape
        empty = start.new_zeros(b, c, layout.history, h, w)
        history = cls(start, empty, (0,) * b, layout, end, blank)
        # Where time goes forward, the start image is also the frame before the first section.
        return history if layout.direction < 0 else replace(history, recent=history._joined(start))

    def append(self, section: Latents) -> "History":
        """The history after `section`, which keeps as many frames as before."""
        numbers = tuple(number + 1 for number in self.numbers)
        start = section[:, :, :1] if self.blank else self.start
        return replace(self, start=start, recent=self._joined(section), numbers=numbers, end=None, blank=False)

    def without(self, dropped: Bool[Tensor, " b"], kept: int = 0) -> "History":
        """The same with all slots of these videos empty but for the `kept` oldest; the start image stays."""
        oldest = [number < kept for number in range(self.recent.shape[2])][:: self.layout.direction]
        shown = ~dropped[:, None, None, None, None].cpu() | torch.tensor(oldest)[:, None, None]
        return replace(self, recent=self.recent * shown.to(self.recent.device))

    def window(self) -> Latents:
        """What the next section sees, in the order of time."""
        return self.recent if self.end is None else torch.cat([self.end, self.recent[:, :, 1:]], 2)

    def _joined(self, frames: Latents) -> Float[Tensor, "b c kept h w"]:
        """New frames at the near end of the window, and as many old ones as fit."""
        kept = self.recent.shape[2]
        near_last = [self.recent, frames][:: self.layout.direction]
        joined = torch.cat(near_last, 2)
        return joined[:, :, -kept:] if self.layout.direction > 0 else joined[:, :, :kept]


def pack_history(backbone: Backbone, history: History, frame_index: FrameIndex, num_sections: int = 1) -> Context:
    """The short-term context as tokens: `[4x | 2x | start, 1x]`, whatever their order in time.

    Raises:
        UserError: sections side by side where the last one is made first.
    """
    if num_sections > 1 and history.layout.direction < 0:
        raise UserError(f"{num_sections} sections at a time in {history.layout}: wanted the order of time")
    device = history.start.device
    layout = history.layout
    indices = [frame_index.indices(layout, number) for number in history.numbers]
    parts = history.window().split([layout.size(level) for level in layout.levels], 2)
    part = dict(zip(layout.levels, parts, strict=True))
    clean = torch.cat([history.start, part["history_1x"]], 2)

    tokens, rotations, counts = [], [], []
    for name, latents, factor, rows in (
        ("history_4x", part["history_4x"], 4, [i.history_4x for i in indices]),
        ("history_2x", part["history_2x"], 2, [i.history_2x for i in indices]),
        ("history_1x", clean, 1, [i.start + i.history_1x for i in indices]),
    ):
        if latents.shape[2]:
            tokens.append(backbone.embed_history(latents, factor))
            counts.append((name, tokens[-1].shape[1]))
            _, height, width = backbone.grid(latents)
            positions = backbone.rotation_grid(_table(rows, device), height, width)
            rotations.append(flatten_rotation(pool_rotation(positions, factor)))
    of_start = counts[-1][1] // clean.shape[2]
    counts[-1:] = [("start", of_start), ("history_1x", counts[-1][1] - of_start)]
    joined = torch.cat(tokens, 1)
    return Context(
        tokens=joined,
        rotation=torch.cat(rotations, 1),
        mask=torch.ones(joined.shape[:2], dtype=torch.bool, device=device),
        section_indices=_table([_several(i.section, num_sections) for i in indices], device),
        parts=tuple(counts),
    )


def _several(section: tuple[int, ...], num_sections: int) -> tuple[int, ...]:
    """Frame indices of a section and of those after it."""
    return tuple(range(section[0], section[0] + num_sections * len(section)))


def _table(rows: Sequence[tuple[int, ...]], device: torch.device) -> FrameIndices:
    return torch.tensor(rows, device=device)
