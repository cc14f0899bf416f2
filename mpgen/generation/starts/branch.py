"""`--branch` and `--section`: a video made here, kept up to a section and made anew from there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpgen.errors import UserError
from mpgen.generation.like import read_settings
from mpgen.generation.pipeline import Job
from mpgen.generation.starts.base import Making, Start, check_prompts, check_seconds, one_video
from mpgen.video.clips import decode_clip, video_size


@dataclass(frozen=True)
class FromBranch(Start):
    """To make a video again from one of its sections on, with another --seed or --prompt.

    Args:
        branch: a video that mpgen generate wrote; its settings hold where none are given. With --order f1.
        section: the first section that is made anew, counted from 1, the first after what was given; those before are
            kept as they are.
        prompt: the text; the video's own if not given.
        prompts: texts that change on the way.
        seconds: length of what is new; as long as the video was if not given.
    """

    branch: Path
    section: int
    prompt: str | None = None
    prompts: Path | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.section < 1:
            raise UserError(f"--section {self.section}: wanted 1 or more, the first section is 1")
        if self.seconds is not None:
            check_seconds(self.seconds)

    def needs_forward(self) -> Iterator[str]:
        yield "--branch"

    def check_files(self) -> None:
        settings = read_settings(self.branch, "--branch")
        if self.section > settings["num_sections"]:
            raise UserError(
                f"--section {self.section}: {self.branch} has {settings['num_sections']}: wanted one of these, or "
                "--continue_from"
            )
        check_prompts(self.prompts, self.prompt)

    def jobs(self, making: Making) -> list[Job]:
        settings, fps = read_settings(self.branch, "--branch"), making.model.fps
        if abs(settings["fps"] - fps) > 1e-6:
            raise UserError(f"--fps {fps:g}: {self.branch} has {settings['fps']:g} frames a second: wanted as many")
        kept = settings["context_frames"] + (self.section - 1) * settings["section_frames"]
        size_px = making.size_for(video_size(self.branch))
        frames = decode_clip(self.branch, fps, *size_px, max_frames=kept) if kept else []
        if len(frames) < kept:
            raise UserError(
                f"--section {self.section}: {self.branch} ends after {len(frames)} frames: wanted {kept} before it"
            )
        seconds = self.seconds
        if seconds is None:
            seconds = (settings["num_sections"] - self.section + 1) * settings["section_frames"] / settings["fps"]
        began = 1 if settings["context_frames"] else 0  # with an image, not with a text alone
        start, known = frames[0] if began else None, frames[began:] if kept > began else None
        prompt = settings["prompt"] if self.prompt is None and self.prompts is None else self.prompt
        return one_video(making, start, known, prompt, self.prompts, None, seconds, size_px)
