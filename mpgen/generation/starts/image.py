"""`--image`: a picture as the first frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpgen.generation.pipeline import Job
from mpgen.generation.starts.base import Making, Start, check_picture, check_prompts, check_seconds, one_video


@dataclass(frozen=True)
class FromImage(Start):
    """To start from an image and a text.

    Args:
        image: the first frame; it is scaled to cover the video's size and cropped, what is transparent lies on black.
        prompt: the text; with --scene, in place of the scene's own caption.
        prompts: texts that change on the way: a CSV with the columns seconds and prompt, or a YAML of seconds to
            prompts. A change holds from the next section that begins at or after it; the sections so far are then kept
            on disk, to make the memory anew under the new text.
        end_image: the last frame; with --order f0.
        seconds: length of what is made, rounded up to whole sections; with --suite, where a row does not say.
    """

    image: Path
    prompt: str | None = None
    prompts: Path | None = None
    end_image: Path | None = None
    seconds: float = 5.0

    def __post_init__(self) -> None:
        check_seconds(self.seconds)

    def needs_backward(self) -> Iterator[str]:
        yield from ["--end_image"] if self.end_image else []

    def check_files(self) -> None:
        check_picture(self.image, "--image")
        check_picture(self.end_image, "--end_image")
        check_prompts(self.prompts, self.prompt)

    def jobs(self, making: Making) -> list[Job]:
        start = making.picture(self.image, "--image")
        return one_video(making, start, None, self.prompt, self.prompts, self.end_image, self.seconds)
