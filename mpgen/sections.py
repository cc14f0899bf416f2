"""All frame arithmetic: pixel frames, latent frames, sections, and where each latent frame of a context stands in time.

Integers only. A latent frame covers `TEMPORAL_STRIDE` pixel frames, except latent frame 0, which is pixel frame 0 alone
(the start image); so a video of 1 + 4k pixel frames has 1 + k latent frames. Sections tile the latent frames after the
start image. Layouts follow FramePack's released code; `frame_index` choices are the readings that the paper's "RoPE
consistency" (§4.1.3) admits, and `LocalIndex` is the released one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

TEMPORAL_STRIDE = 4


def latent_frames(pixel_frames: int) -> int:
    """How many latent frames hold `pixel_frames` = 1 + 4k pixel frames.

    Raises:
        ValueError: when `pixel_frames` is not of that form.
    """
    if pixel_frames < 1 or (pixel_frames - 1) % TEMPORAL_STRIDE:
        raise ValueError(f"{pixel_frames} pixel frames: wanted 1 + {TEMPORAL_STRIDE} * k")
    return 1 + (pixel_frames - 1) // TEMPORAL_STRIDE


def pixel_frames(latent_frames: int) -> int:
    """How many pixel frames `latent_frames` latent frames decode to, the first of them being the start image."""
    return 1 + TEMPORAL_STRIDE * (latent_frames - 1)


def count_sections(pixel_frames: int, section_latent_frames: int) -> int:
    """How many whole sections follow the start image in a video of `pixel_frames`."""
    return max(pixel_frames - 1, 0) // (TEMPORAL_STRIDE * section_latent_frames)


def sections_for(seconds: float, fps: float, section_latent_frames: int) -> int:
    """The fewest sections that last at least `seconds` (one at the least)."""
    section_pixel_frames = TEMPORAL_STRIDE * section_latent_frames
    wanted = round(seconds * fps)
    return max(-(-wanted // section_pixel_frames), 1)


@dataclass(frozen=True)
class Indices:
    """The frame index of every latent frame that a section sees, by the part of the context it is in."""

    start: tuple[int, ...]
    history_4x: tuple[int, ...]
    history_2x: tuple[int, ...]
    history_1x: tuple[int, ...]
    section: tuple[int, ...]


@dataclass(frozen=True)
class Forward:
    """FramePack-F1: sections in the order of time, each after the latest frames, which are packed at 4x, 2x and 1x.

    Args:
        section: latent frames of a section.
        history_4x: latent frames packed at 4x, the oldest; a multiple of 4.
        history_2x: latent frames packed at 2x; a multiple of 2.
        history_1x: latent frames kept whole, the latest.
    """

    section: int = 9
    history_4x: int = 16
    history_2x: int = 2
    history_1x: int = 1

    def __post_init__(self):
        if self.section < 1 or self.history_1x < 1 or self.history_4x % 4 or self.history_2x % 2:
            raise ValueError(f"{self}: wanted section and history_1x >= 1, history_4x in fours, history_2x in twos")

    @property
    def history(self) -> int:
        """Latent frames that the short-term context reaches back."""
        return self.history_4x + self.history_2x + self.history_1x

    @property
    def section_pixel_frames(self) -> int:
        return TEMPORAL_STRIDE * self.section

    def bounds(self, number: int) -> tuple[int, int]:
        """First and one-past-last latent frame of section `number`, counted from the start image (frame 0)."""
        return 1 + number * self.section, 1 + (number + 1) * self.section


class FrameIndex(ABC):
    """Where the start image, the history and the section stand in time, for the rotary embedding."""

    @abstractmethod
    def indices(self, layout: Forward, number: int) -> Indices:
        """The frame indices that section `number` (from 0) and its context carry."""


@dataclass(frozen=True)
class LocalIndex(FrameIndex):
    """The same indices in every section: start 0, the history 1, 2, ..., then the section (released FramePack-F1)."""

    def indices(self, layout: Forward, number: int) -> Indices:
        return _consecutive(layout, first_history=1)


@dataclass(frozen=True)
class GlobalIndex(FrameIndex):
    """True indices in the whole video; the start image is 0, slots before it are negative and hold zero latents."""

    def indices(self, layout: Forward, number: int) -> Indices:
        return _consecutive(layout, first_history=layout.bounds(number)[0] - layout.history)


@dataclass(frozen=True)
class BoundedIndex(FrameIndex):
    """True indices until the history is `limit` frames away from the start image, then no further (our choice)."""

    limit: int = 16

    def indices(self, layout: Forward, number: int) -> Indices:
        return _consecutive(layout, first_history=min(layout.bounds(number)[0] - layout.history, self.limit))


def _consecutive(layout: Forward, first_history: int) -> Indices:
    at_2x = first_history + layout.history_4x
    at_1x = at_2x + layout.history_2x
    at_section = at_1x + layout.history_1x
    return Indices(
        start=(0,),
        history_4x=tuple(range(first_history, at_2x)),
        history_2x=tuple(range(at_2x, at_1x)),
        history_1x=tuple(range(at_1x, at_section)),
        section=tuple(range(at_section, at_section + layout.section)),
    )
