"""Cached videos as batches: whole videos of equal numbers of sections, sections in order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, default_collate

from mpgen.conditioning import Conditioning
from mpgen.data.cache import CacheEntry
from mpgen.data.curriculum import Group
from mpgen.errors import UserError


@dataclass(frozen=True)
class VideoBatch:
    """Videos with the same number of sections, in the dtype that they are stored in until they are where they are used.

    Args:
        start: the start image of each, encoded alone.
        latents: the frames after it; `num_sections` sections of equal length, one after the other.
        conditioning: features of the captions and the start images.
        num_sections: the same on every rank.
        uids: which videos these are; noise is keyed by them.
        captions: their texts, for logs.
        num_given: the first so many sections are not trained on, only remembered.
    """

    start: Float[Tensor, "b c 1 h w"]
    latents: Float[Tensor, "b c t h w"]
    conditioning: Conditioning
    num_sections: int
    uids: tuple[str, ...]
    captions: tuple[str, ...]
    num_given: int = 0

    def to(self, device: torch.device | str) -> "VideoBatch":
        """On a device, in float32: noise levels would not survive bfloat16, but the way there is half as long in it."""
        return VideoBatch(
            self.start.to(device).float(),
            self.latents.to(device).float(),
            self.conditioning.to(device).to(dtype=torch.float32),
            self.num_sections,
            self.uids,
            self.captions,
            self.num_given,
        )

    def parts(self, count: int) -> list["VideoBatch"]:
        """So many batches of equal numbers of videos, which are these."""
        size, rest = divmod(len(self.uids), count)
        assert not rest, f"{len(self.uids)} videos do not make {count} equal batches"
        cuts = [slice(first, first + size) for first in range(0, len(self.uids), size)]
        return [
            replace(
                self,
                start=self.start[cut],
                latents=self.latents[cut],
                conditioning=self.conditioning.cut(cut),
                uids=self.uids[cut],
                captions=self.captions[cut],
            )
            for cut in cuts
        ]


class CachedVideos(Dataset[VideoBatch]):
    """Reads a batch at a time: the index is a `Group`, so a video is only read as far as it is used.

    Args:
        entries: what the cache holds; a group's items are positions in it.
        section_latent_frames: latent frames of a section.
    """

    def __init__(self, entries: Sequence[CacheEntry], section_latent_frames: int) -> None:
        self.entries = tuple(entries)
        self.section_latent_frames = section_latent_frames

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, group: Group) -> VideoBatch:
        entries = [self.entries[item] for item in group.items]
        assert all(entry.num_sections >= group.num_sections for entry in entries), (
            "the plan asks for more than there is"
        )
        videos = [self._read_video(entry, group.num_sections) for entry in entries]
        texts = [_read_text(entry) for entry in entries]
        return VideoBatch(
            start=_stacked(videos, "start"),
            latents=_stacked(videos, "latents"),
            conditioning=Conditioning(
                text=pad_sequence([text["tokens"] for text in texts], batch_first=True),
                text_mask=pad_sequence([text["mask"] for text in texts], batch_first=True),
                pooled=_stacked(texts, "pooled") if "pooled" in texts[0] else None,
                image=_stacked(videos, "image") if "image" in videos[0] else None,
            ),
            num_sections=group.num_sections,
            uids=tuple(entry.uid for entry in entries),
            captions=tuple(entry.caption for entry in entries),
            num_given=group.num_given,
        )

    def _read_video(self, entry: CacheEntry, num_sections: int) -> dict[str, Tensor]:
        with _opened(entry.video_file) as file:
            latents = file.get_slice("latents")[:, : num_sections * self.section_latent_frames]
            others = {name: file.get_tensor(name) for name in file.keys() if name != "latents"}  # noqa: SIM118
            return {"latents": latents, **others}


def _read_text(entry: CacheEntry) -> dict[str, Tensor]:
    with _opened(entry.text_file) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """Never another video in place of a broken one: that would undo the plan, and on one rank only.

    Raises:
        UserError: the file is gone or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cached features cannot be read ({error}); remove the file and start again") from error


def _stacked(items: Sequence[dict[str, Tensor]], name: str) -> Tensor:
    """One copy, from the mapped file to where it is wanted: in a worker that is memory shared with the trainer."""
    return default_collate([item[name] for item in items])
