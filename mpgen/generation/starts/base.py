"""What every start says: which videos to make, and what cannot go together with it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from mpgen.checkpoints import LoadedModel
from mpgen.errors import UserError
from mpgen.generation.pipeline import Job
from mpgen.generation.prompts import read_prompts
from mpgen.generation.sizes import Size
from mpgen.options import Options
from mpgen.sections import Layout, sections_for
from mpgen.video.pictures import cover, read_picture

Frame = UInt8[np.ndarray, "h w 3"]
MAX_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Making:
    """What the jobs are made for.

    Args:
        model: makes them.
        size: that was asked for.
        any_size: the model has no size of its own.
        output: that was asked for.
        order: which sections come first.
        seed: which scene of a family.
    """

    model: LoadedModel
    size: Size
    any_size: bool
    output: Path
    order: type[Layout]
    seed: int

    def size_for(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the video for those of what it begins from."""
        return self.size.of(self.model, shape, self.any_size)

    def picture(self, path: Path, option: str) -> Frame:
        """A picture at the size of the video."""
        picture = read_picture(path, option)
        return cover(picture, *self.size_for((picture.height, picture.width)))

    def blank_px(self) -> tuple[int, int]:
        """Height and width of a video that begins from no picture."""
        return self.size_for((self.model.height_px, self.model.width_px))

    def sections(self, seconds: float) -> int:
        return sections_for(seconds, self.model.fps, self.model.denoiser.layout.section_pixel_frames)


class Start(Options, ABC):
    """What a video begins from; many of them are made into a folder, and what is there already is not made again."""

    makes_many: ClassVar[bool] = False
    takes_size: ClassVar[bool] = True
    fps: ClassVar[float | None] = None  # in place of the released weights' own

    @abstractmethod
    def check_files(self) -> None:
        """Raises UserError for a file that cannot be read, before a model is loaded."""

    @abstractmethod
    def jobs(self, making: Making) -> list[Job]: ...

    def check_order(self, order: type[Layout]) -> None:
        """Raises UserError where this cannot be made in the order."""
        for given in self.needs_forward():
            if order.direction < 0:
                raise UserError(f"{given} with --order f0: wanted --order f1, which goes on from what was before")
        for given in self.needs_backward():
            if not order.takes_end_image:
                raise UserError(f"{given} with --order f1: wanted --order f0, which begins at the end of the video")

    def needs_forward(self) -> Iterator[str]:
        """The options that only an order which goes on can take."""
        yield from ()

    def needs_backward(self) -> Iterator[str]:
        """The options that only an order which begins at the end can take."""
        yield from ()

    def for_evaluate(self) -> str:
        """What tells `mpgen evaluate` of many videos."""
        return ""


def check_seconds(seconds: float) -> None:
    """Raises UserError for a length that cannot be made."""
    if not isfinite(seconds) or not 0 < seconds <= MAX_SECONDS:
        raise UserError(f"--seconds {seconds:g}: wanted more than 0 and at most {MAX_SECONDS}, a day")


def check_prompts(prompts: Path | None, prompt: str | None) -> None:
    """Raises UserError for a schedule of texts that cannot be used."""
    if prompts is not None:
        read_prompts(prompts, prompt)


def check_picture(path: Path | None, option: str) -> None:
    """Raises UserError for a picture that cannot be read."""
    if path is not None:
        read_picture(path, option)


def one_video(
    making: Making,
    start: Frame | None,
    known: UInt8[np.ndarray, "t h w 3"] | None,
    prompt: str | None,
    prompts: Path | None,
    end_image: Path | None,
    seconds: float,
    blank_px: tuple[int, int] | None = None,
) -> list[Job]:
    """The job of a single video, with the texts and the last frame that were asked for; see `Job`."""
    script = None if prompts is None else read_prompts(prompts, prompt)
    end = None
    if end_image is not None and start is not None:
        end = cover(read_picture(end_image, "--end_image"), *start.shape[:2])
    text = (prompt or "") if script is None else script.texts[0]
    return [Job(text, start, known, making.sections(seconds), making.output, end, making.order, script, blank_px)]
