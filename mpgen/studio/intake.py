"""What users hand in: files under names of our own, and the settings that a video made here says of itself."""

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpgen.errors import UserError
from mpgen.generation.like import read_settings
from mpgen.generation.starts.base import MAX_SECONDS
from mpgen.video.clips import video_size
from mpgen.video.pictures import read_picture

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


@dataclass(frozen=True)
class Settings:
    """What a video says of itself.

    Args:
        prompt: its text; empty where it changed on the way.
        changed: whether it did.
        seconds: length of what was made.
        endless: it had none.
        num_sections: that were made.
        section_seconds: of video in each.
        denoising: options of `Denoising`, by name.
    """

    prompt: str
    changed: bool
    seconds: float
    endless: bool
    num_sections: int
    section_seconds: float
    denoising: dict[str, Any]


def take_in(folder: Path, given: str | Path | None, what: str) -> str:
    """Keeps an uploaded picture or video under a name of our own, by which a request finds it in the studio's folder.

    Raises:
        UserError: nothing was given, or it is no picture or video that can be read.
    """
    if given is None:
        raise UserError(f"no {what} was chosen: wanted one")
    path, suffixes = Path(given), PICTURES if what == "picture" else VIDEOS
    if path.suffix.lower() not in suffixes:
        raise UserError(f"a {what} called ...{path.suffix[:12]}: wanted one of {' '.join(suffixes)}")
    kept = folder / "inputs" / f"{secrets.token_hex(8)}{path.suffix.lower()}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(path, kept)
        _check(kept, what)
    except (UserError, OSError) as error:
        kept.unlink(missing_ok=True)
        raise UserError(str(error).replace(str(kept), "that was chosen")) from error
    return str(kept.relative_to(folder))


def settings_of(path: Path) -> Settings:
    """The settings of a video that was made here.

    Raises:
        UserError: it says none, or what cannot be.
    """
    try:
        read = read_settings(path, "the video")
    except UserError as error:
        raise UserError(str(error).replace(f" {path}", "")) from error
    section = read["section_frames"] / read["fps"]
    seconds = read["num_sections"] * section
    names = ("sampler", "steps", "shift", "guidance_scale", "seed")
    return Settings(
        read["prompt"] or "",
        read["prompt"] is None,
        seconds,
        seconds >= MAX_SECONDS - section,
        read["num_sections"],
        section,
        {name: read[name] for name in names},
    )


def _check(path: Path, what: str) -> None:
    if what == "picture":
        read_picture(path, "the picture")
    else:
        video_size(path)
