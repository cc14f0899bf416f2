"""`--prompt` alone: a text, for models whose first section needs no picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpgen.errors import UserError
from mpgen.generation.pipeline import Job
from mpgen.generation.starts.base import Making, Start, check_prompts, check_seconds, one_video


@dataclass(frozen=True)
class FromText(Start):
    """To start from a text alone, with Helios or Wan: their first section begins with a still of its own.

    Args:
        prompt: the text.
        prompts: texts that change on the way.
        seconds: length of what is made.
    """

    prompt: str | None = None
    prompts: Path | None = None
    seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.prompt is None and self.prompts is None:
            raise UserError(
                "given nothing: wanted one of --image, --continue_from, --branch with --section, --scene, --world, "
                "--suite, or --prompt alone"
            )
        check_seconds(self.seconds)

    def needs_forward(self) -> Iterator[str]:
        yield "--prompt alone"

    def check_files(self) -> None:
        check_prompts(self.prompts, self.prompt)

    def jobs(self, making: Making) -> list[Job]:
        return one_video(making, None, None, self.prompt, self.prompts, None, self.seconds, making.blank_px())
