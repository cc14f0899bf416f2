"""`--world`: the held-out videos of a rendered world, all made again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mpgen.data.manifest import read_manifest
from mpgen.data.records import VideoRecord
from mpgen.errors import UserError
from mpgen.generation.pipeline import Job
from mpgen.generation.starts.base import Making, Start, check_seconds
from mpgen.options import choose
from mpgen.video.clips import read_video
from mpgen.world.truth import Truth
from mpgen.world.truth_files import load_truth


def _no_sections(truth: Truth, section: int) -> int | None:
    return 0


def _witnessed_sections(truth: Truth, section: int) -> int | None:
    return None if truth.witness_frames == 0 else -(-max(truth.witness_frames - 1, 0) // section)


def _sections_before_return(truth: Truth, section: int) -> int | None:
    returns = [span.first_seen for span in truth.hidden_spans]
    return None if not returns else (min(returns) - 1) // section


# How many sections of so many frames are given after the first frame; None if nothing hides (and returns).
CONTEXTS = {"first_frame": _no_sections, "witness": _witnessed_sections, "return": _sections_before_return}


@dataclass(frozen=True)
class FromWorld(Start):
    """To make the held-out videos of a world again, as they are; --output is a folder.

    Args:
        world: a folder that `mpgen world` made.
        context: what the model is given: first_frame; witness, all true frames until the object has hidden; or return,
            all until the section in which it comes out again.
        num_videos: how many of them.
        seconds: length of what is made.
    """

    makes_many: ClassVar[bool] = True
    takes_size: ClassVar[bool] = False

    world: Path
    context: str = "first_frame"
    num_videos: int = 32
    seconds: float = 5.0

    def __post_init__(self) -> None:
        choose(CONTEXTS, self.context, f"--context {self.context}")
        check_seconds(self.seconds)
        if self.num_videos < 1:
            raise UserError(f"--num_videos {self.num_videos}: wanted at least 1")

    def needs_forward(self) -> Iterator[str]:
        yield from [f"--context {self.context}"] if self.context != "first_frame" else []

    def for_evaluate(self) -> str:
        return f"--world {self.world}"

    def check_files(self) -> None:
        self._records()

    def jobs(self, making: Making) -> list[Job]:
        jobs = []
        for record in self._records():
            if len(jobs) == self.num_videos:
                break
            jobs += self._job(making, record)
        if not jobs:
            raise UserError(f"--world {self.world}: no held-out video suits --context {self.context}")
        return jobs

    def _records(self) -> Sequence[VideoRecord]:
        return read_manifest(self.world / "manifest.csv", split="val").records

    def _job(self, making: Making, record: VideoRecord) -> list[Job]:
        """The job of a video; none if there is nothing in it to remember."""
        model, name = making.model, Path(record.path).stem
        frames, section = read_video(record.path), model.denoiser.layout.section_pixel_frames
        if frames.shape[1:3] != (model.height_px, model.width_px):
            raise UserError(
                f"{record.path} is {frames.shape[2]}x{frames.shape[1]}: "
                f"wanted {model.width_px}x{model.height_px}, which the model makes"
            )
        given = 0
        if self.context != "first_frame":
            given = CONTEXTS[self.context](load_truth(self.world / "truth" / f"{name}.json"), section)
        if given is None or len(frames) < 1 + given * section:
            return []
        known = frames[1 : 1 + given * section].copy() if given else None
        output = making.output / f"{name}.mp4"
        sections = making.sections(self.seconds)
        return [Job(record.caption, frames[0].copy(), known, sections, output, order=making.order)]
