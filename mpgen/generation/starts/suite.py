"""`--suite`: a CSV with a row for every video, such as the paper's."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mpgen.data.suite import SuiteRow, read_suite
from mpgen.errors import UserError
from mpgen.generation.pipeline import Job
from mpgen.generation.starts.base import Making, Start, check_picture, check_seconds


@dataclass(frozen=True)
class FromSuite(Start):
    """To make the videos of a suite, each under its row's name; --output is a folder.

    Args:
        suite: a CSV: name, image (a relative path begins at the CSV), and if wanted prompt and seconds. `mpgen evaluate
            --manifest` takes the same file.
        seconds: the length where a row does not say.
    """

    makes_many: ClassVar[bool] = True
    fps: ClassVar[float | None] = 24.0  # the paper's evaluation (§5.2)

    suite: Path
    seconds: float = 5.0

    def __post_init__(self) -> None:
        check_seconds(self.seconds)

    def for_evaluate(self) -> str:
        return f"--manifest {self.suite}"

    def check_files(self) -> None:
        for place, row in self._rows():
            check_picture(self.suite.parent / row.image, f"{place}: image")

    def jobs(self, making: Making) -> list[Job]:
        jobs = []
        for place, row in self._rows():
            start = making.picture(self.suite.parent / row.image, f"{place}: image")
            output = making.output / _file_name(row)
            sections = making.sections(row.seconds or self.seconds)
            jobs.append(Job(row.prompt, start, None, sections, output, order=making.order))
        return jobs

    def _rows(self) -> list[tuple[str, SuiteRow]]:
        """Each with its place in the file."""
        rows = [(f"{self.suite} row {number}", row) for number, row in enumerate(read_suite(self.suite, "--suite"), 1)]
        if not rows:
            raise UserError(f"--suite {self.suite} has no row: wanted one for every video")
        for place, row in rows:
            if _file_name(row).is_absolute() or ".." in _file_name(row).parts:
                raise UserError(f"{place}: name {row.name!r}: wanted a path inside the folder of videos")
            if not row.image:
                raise UserError(f"{place}: {row.name!r} has no image: wanted its first frame")
        return rows


def _file_name(row: SuiteRow) -> Path:
    return Path(row.name if row.name.endswith(".mp4") else f"{row.name}.mp4")
