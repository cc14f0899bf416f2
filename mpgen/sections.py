"""All frame arithmetic: pixel frames, latent frames, sections, and where each latent frame of a context stands in time.

Integers only. A latent frame covers `TEMPORAL_STRIDE` pixel frames, except latent frame 0, which is pixel frame 0 alone
(the start image); so a video of 1 + 4k pixel frames has 1 + k latent frames. Sections tile the latent frames after the
start image. Helios encodes every section by itself: then the first latent frame of each is one pixel frame, and 9
latent frames are 33 pixel frames and not 36; latent frames are counted and packed as ever. Layouts follow FramePack's
released code; `frame_index` choices are the readings that the paper's "RoPE consistency" (§4.1.3) admits, and
`LocalIndex` is the released one.
"""

from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

TEMPORAL_STRIDE = 4
DRIFT_SHARE = 0.15


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


def section_pixel_frames(section_latent_frames: int, alone: bool = False) -> int:
    """How many pixel frames a section has; `alone` if it is encoded by itself."""
    return pixel_frames(section_latent_frames) if alone else TEMPORAL_STRIDE * section_latent_frames


def count_sections(pixel_frames: int, section_pixel_frames: int) -> int:
    """How many whole sections follow the start image in a video of `pixel_frames`."""
    return max(pixel_frames - 1, 0) // section_pixel_frames


def sections_for(seconds: float, fps: float, section_pixel_frames: int) -> int:
    """The fewest sections that last at least `seconds` (one at the least)."""
    wanted = round(seconds * fps)
    return max(-(-wanted // section_pixel_frames), 1)


def frames_at_each_end(num_frames: int, share: float = DRIFT_SHARE, at_least: int = 1) -> int:
    """How many of the generated frames drift compares, last with first (paper §5.2); rounded down as in Helios.

    Consistency needs `at_least` 2, even where there are fewer.
    """
    return max(at_least, int(share * num_frames))


@dataclass(frozen=True)
class Indices:
    """The frame index of every latent frame that a section sees, by the part of the context it is in."""

    start: tuple[int, ...]
    history_4x: tuple[int, ...]
    history_2x: tuple[int, ...]
    history_1x: tuple[int, ...]
    section: tuple[int, ...]


@dataclass(frozen=True)
class Layout(metaclass=ABCMeta):  # with ABC as a base, configs could no longer name and link its fields
    """In which order sections are made, and how the ones already there are packed around the next one.

    Args:
        section: latent frames of a section.
        history_4x: latent frames packed at 4x, the farthest; a multiple of 4.
        history_2x: latent frames packed at 2x; a multiple of 2.
        history_1x: latent frames kept whole, the nearest.
        alone: every section is encoded and decoded by itself, as Helios' weights were trained.
    """

    section: int = 9
    history_4x: int = 16
    history_2x: int = 2
    history_1x: int = 1
    alone: bool = False

    groups: ClassVar[tuple[str, ...]]
    """What stands after the start image, in the order of time: fields of this class and of `Indices`."""
    direction: ClassVar[int]
    """1 where sections are made in the order of time, -1 where the last one is made first."""
    takes_end_image: ClassVar[bool]
    """Whether the first section made can be shown the image that the video shall end with."""

    def __post_init__(self):
        if self.section < 1 or self.history_1x < 1 or self.history_4x % 4 or self.history_2x % 2:
            raise ValueError(f"{self}: wanted section and history_1x >= 1, history_4x in fours, history_2x in twos")

    @classmethod
    def like(cls, other: "Layout") -> "Layout":
        """This order, with the sizes of another layout."""
        return cls(other.section, other.history_4x, other.history_2x, other.history_1x, other.alone)

    @abstractmethod
    def for_video(self, num_sections: int) -> "Layout":
        """The layout of a video of so many sections."""

    @abstractmethod
    def bounds(self, number: int) -> tuple[int, int]:
        """First and one-past-last latent frame of the section made as `number`, counted from the start image (0)."""

    @abstractmethod
    def first_local(self, number: int) -> int:
        """Where the released model puts the first latent frame after the start image's."""

    @abstractmethod
    def first_global(self, number: int) -> int:
        """Where that frame truly stands in the video."""

    @property
    def history(self) -> int:
        """Latent frames that the short-term context reaches."""
        return self.history_4x + self.history_2x + self.history_1x

    @property
    def levels(self) -> tuple[str, ...]:
        """The parts of the history, in the order of time."""
        return tuple(group for group in self.groups if group != "section")

    @property
    def section_pixel_frames(self) -> int:
        return section_pixel_frames(self.section, self.alone)

    def size(self, group: str) -> int:
        """Latent frames in a part of the context."""
        sizes = {
            "section": self.section,
            "history_4x": self.history_4x,
            "history_2x": self.history_2x,
            "history_1x": self.history_1x,
        }
        return sizes[group]


@dataclass(frozen=True)
class Forward(Layout):
    """FramePack-F1: sections in the order of time, each after the latest frames, which are packed at 4x, 2x and 1x."""

    groups = ("history_4x", "history_2x", "history_1x", "section")
    direction = 1
    takes_end_image = False

    def for_video(self, num_sections: int) -> "Forward":
        return self

    def bounds(self, number: int) -> tuple[int, int]:
        return 1 + number * self.section, 1 + (number + 1) * self.section

    def first_local(self, number: int) -> int:
        return 1

    def first_global(self, number: int) -> int:
        return self.bounds(number)[0] - self.history


@dataclass(frozen=True)
class Inverted(Layout):
    """FramePack-F0, "inverted anti-drifting": the last section first, each before the frames that come after it.

    Args:
        num_sections: of the whole video; every section's place follows from it.
    """

    num_sections: int = 1

    groups = ("section", "history_1x", "history_2x", "history_4x")
    direction = -1
    takes_end_image = True

    def for_video(self, num_sections: int) -> "Inverted":
        return replace(self, num_sections=num_sections)

    def bounds(self, number: int) -> tuple[int, int]:
        place = self.num_sections - 1 - number
        return 1 + place * self.section, 1 + (place + 1) * self.section

    def paddings(self) -> tuple[int, ...]:
        """How many sections are left blank between the start image and each section, in the order they are made.

        Up to four sections these are the true distances; the released code then pretends that a long video is short.
        """
        n = self.num_sections
        return tuple(reversed(range(n))) if n <= 4 else (3, *[2] * (n - 3), 1, 0)

    def first_local(self, number: int) -> int:
        return 1 + self.paddings()[number] * self.section

    def first_global(self, number: int) -> int:
        return self.bounds(number)[0]


ORDERS: Mapping[str, type[Layout]] = MappingProxyType({"f1": Forward, "f0": Inverted})


class FrameIndex(ABC):
    """Where the start image, the history and the section stand in time, for the rotary embedding."""

    @abstractmethod
    def indices(self, layout: Layout, number: int) -> Indices:
        """The frame indices that section `number` (from 0, as they are made) and its context carry."""


@dataclass(frozen=True)
class LocalIndex(FrameIndex):
    """The released indices. F1: start 0, history 1, 2, ..., then the section, always the same. F0: see `Inverted`."""

    def indices(self, layout: Layout, number: int) -> Indices:
        return _consecutive(layout, layout.first_local(number))


@dataclass(frozen=True)
class GlobalIndex(FrameIndex):
    """True indices in the whole video; the start image is 0, slots before it are negative and hold zero latents."""

    def indices(self, layout: Layout, number: int) -> Indices:
        return _consecutive(layout, layout.first_global(number))


@dataclass(frozen=True)
class BoundedIndex(FrameIndex):
    """True indices until what follows the start image is `limit` frames away from it, then no further (our choice)."""

    limit: int = 16

    def indices(self, layout: Layout, number: int) -> Indices:
        return _consecutive(layout, min(layout.first_global(number), self.limit))


def _consecutive(layout: Layout, first: int) -> Indices:
    ranges = {}
    for group in layout.groups:
        ranges[group] = tuple(range(first, first + layout.size(group)))
        first += layout.size(group)
    return Indices(start=(0,), **ranges)
