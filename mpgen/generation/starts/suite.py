"""`--suite`: a CSV with a row for every video, such as the paper's."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mpgen.data.suite import read_suite
from mpgen.errors import UserError
from mpgen.generation.pipeline import Job
from mpgen.generation.starts.base import Making, Start, check_seconds


@dataclass(frozen=True)
class FromSuite(Start):
    """To make the videos of a suite, each under its row's name; --output is a folder.

    Args:
        suite: a CSV: name, image (a relative path begins at the CSV), and if wanted prompt and seconds. `mpgen evaluate
            --manifest` takes the same file.
        seconds: the length where a row does not say.
    """

    makes_many: ClassVar[bool] = True

    suite: Path
    seconds: float = 5.0

    def __post_init__(self) -> None:
        check_seconds(self.seconds)

    def for_evaluate(self) -> str:
        return f"--manifest {self.suite}"

    def jobs(self, making: Making) -> list[Job]:
        rows = read_suite(self.suite, "--suite")
        if not rows:
            raise UserError(f"--suite {self.suite} has no row: wanted one for every video")
        jobs = []
        for number, row in enumerate(rows, 1):
            place = f"{self.suite} row {number}"
            name = Path(row.name if row.name.endswith(".mp4") else f"{row.name}.mp4")
            if name.is_absolute() or ".." in name.parts:
                raise UserError(f"{place}: name {row.name!r}: wanted a path inside the folder of videos")
            if not row.image:
                raise UserError(f"{place}: {row.name!r} has no image: wanted its first frame")
            start = making.picture(self.suite.parent / row.image, f"{place}: image")
            sections = making.sections(row.seconds or self.seconds)
            jobs.append(Job(row.prompt, start, None, sections, making.output / name, order=making.order))
        return jobs
