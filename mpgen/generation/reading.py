"""What a section reads: the share of its attention that goes to memory, short-term context, start image and itself.

Computed beside the network's own attention in one forward of a section, and only where somebody asks for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.attention import Heads, KeyValue, Mask, observed
from mpgen.backbones.base import Context

MOST_QUERIES = 256  # tokens of a section that are looked at, evenly spaced
SECTION, CONDITION = "section", "text and image"


@dataclass(frozen=True)
class Reading:
    """Shares of a section's attention, the mean over layers, heads and its tokens; they sum to 1.

    Args:
        parts: of memory, history_4x, history_2x, start, history_1x, the section itself, and text and image.
        memory: of each memory token; empty without a memory.
    """

    parts: dict[str, float]
    memory: tuple[float, ...]


@dataclass
class Reader:
    """Adds up the shares of one video's section over layers.

    Args:
        context: of the section.
        num_own: tokens of the section.
    """

    context: Context
    num_own: int
    total: Float[Tensor, " keys"] | None = None
    layers: int = field(default=0)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, the attention of the network is looked at."""
        with observed(self._look):
            yield

    @property
    def seen(self) -> Reading | None:
        """What came of it; None where no layer ran."""
        if self.total is None:
            return None
        mean = self.total / self.layers
        in_memory = self.context.memory_tokens
        parts = [*([("memory", in_memory)] if in_memory else []), *self.context.parts, (SECTION, self.num_own)]
        shares = [float(part.sum()) for part in mean[: sum(n for _, n in parts)].split([n for _, n in parts])]
        named = {name: share for (name, _), share in zip(parts, shares, strict=True)}
        memory = tuple(mean[:in_memory].tolist())
        return Reading(named | {CONDITION: max(0.0, 1 - sum(shares))}, memory)

    def _look(self, query: Heads, key: KeyValue, mask: Mask) -> None:
        """Records joint attention over all video tokens; attention of or to text alone is skipped."""
        before = self.context.tokens.shape[1]
        video = before + self.num_own
        if min(query.shape[2], key.shape[2]) < video:
            return
        asked = torch.arange(before, video, max(1, -(-self.num_own // MOST_QUERIES)), device=query.device)
        share = torch.stack([_share(q, k, mask, asked) for q, k in zip(query[0, :, asked], key[0], strict=True)]).mean(
            0
        )
        share = torch.cat([share[:video], share[video:].sum()[None]]).cpu()
        self.total = share if self.total is None else self.total + share
        self.layers += 1


def _share(
    query: Float[Tensor, "asked d"], key: Float[Tensor, "keys d"], mask: Mask, asked: Sequence[int] | Tensor
) -> Float[Tensor, " keys"]:
    """Where one head of the first video looks."""
    scores = query.float() @ key.float().T * query.shape[-1] ** -0.5
    if mask is not None:
        allowed = mask[0, 0] if mask.shape[2] == 1 else mask[0, 0, asked]
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1).mean(0)
