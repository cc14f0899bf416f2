"""`--continue_from`: a video to go on with."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mpgen.errors import UserError
from mpgen.generation.pipeline import Job
from mpgen.generation.starts.base import Making, Start, check_prompts, check_seconds, one_video
from mpgen.video.clips import decode_clip, video_size


@dataclass(frozen=True)
class FromVideo(Start):
    """To start from a video; with --prompt or --prompts.

    Args:
        continue_from: a video whose frames come first in the output; what follows is new. With --order f1.
        prompt: the text.
        prompts: texts that change on the way.
        seconds: length of what is new.
    """

    continue_from: Path
    prompt: str | None = None
    prompts: Path | None = None
    seconds: float = 5.0

    def __post_init__(self) -> None:
        check_seconds(self.seconds)

    def needs_forward(self) -> Iterator[str]:
        yield "--continue_from"

    def check_files(self) -> None:
        if not self.continue_from.is_file():
            raise UserError(f"--continue_from {self.continue_from} does not exist, or is no file")
        video_size(self.continue_from)
        check_prompts(self.prompts, self.prompt)

    def jobs(self, making: Making) -> list[Job]:
        frames = self._frames(making)
        return one_video(making, frames[0], frames[1:], self.prompt, self.prompts, None, self.seconds)

    def _frames(self, making: Making) -> UInt8[np.ndarray, "t h w 3"]:
        """All frames at the model's rate; they stay in memory, 1.2 MB a frame at 480 x 832."""
        height, width = making.size_for(video_size(self.continue_from))
        frames = decode_clip(self.continue_from, making.model.fps, height, width)
        wanted = 1 + making.model.denoiser.layout.section_pixel_frames
        if len(frames) < wanted:
            raise UserError(
                f"--continue_from {self.continue_from} has {len(frames)} frames at {making.model.fps:g} a second: "
                f"wanted at least {wanted}, a start frame and one section"
            )
        return frames
