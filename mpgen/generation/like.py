"""`--like VIDEO` and `--branch VIDEO`: the settings that a video made here says of itself, as options.

They come first among the words, so what is given by hand goes before. A video may come from anywhere: what it says is
checked value by value, and no path in it is followed, so the weights are always named by hand.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from mpgen.errors import UserError
from mpgen.generation.caches import CACHES
from mpgen.generation.denoising import MAX_SEED, MAX_SHIFT, MAX_STEPS
from mpgen.machine import MAX_FPS
from mpgen.sampling import SAMPLERS
from mpgen.sections import ORDERS
from mpgen.video.clips import video_size
from mpgen.video.opening import read_metadata

MAX_TEXT, MAX_FRAMES = 100_000, 10_000_000
STARTS = ("image", "scene", "continue_from", "world", "suite", "branch")

Check = Callable[[Any], bool]


def _whole(least: int, most: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(above: float | int, most: float | int) -> Check:
    return lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and above < value <= most
    )


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


# What is read of a video, and what it may be; those of `sampling` have the names of options.
WANTED: dict[str, tuple[Check, str]] = {
    "prompt": (_text, "a text"),
    "fps": (_number(0, MAX_FPS), "frames a second"),
    "order": (lambda value: _text(value) and value in ORDERS, "f1 or f0"),
    "num_sections": (_whole(1, MAX_FRAMES), "a number of sections"),
    "section_frames": (_whole(1, MAX_FRAMES), "a number of frames"),
    "context_frames": (_whole(0, MAX_FRAMES), "a number of frames"),
}
WANTED_OF_SAMPLING: dict[str, tuple[Check, str]] = {
    "sampler": (lambda value: _text(value) and value in SAMPLERS, "a sampler"),
    "steps": (_whole(1, MAX_STEPS), "a number of steps"),
    "shift": (_number(0, MAX_SHIFT), "a number above 0"),
    "guidance_scale": (_number(-1e-9, 1e6), "a number"),
    "seed": (_whole(0, MAX_SEED), "a whole number"),
    "negative_prompt": (_text, "a text"),
}


def read_settings(path: Path, option: str) -> dict[str, Any]:
    """What a video made here says of itself, by `WANTED` and `WANTED_OF_SAMPLING`; `option` names it in errors.

    Raises:
        UserError: it is no video of ours, or says what cannot be.
    """
    if not path.is_file():
        raise UserError(f"{option} {path} does not exist, or is no file")
    try:
        card = json.loads(read_metadata(path).get("comment", ""))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        card = None
    if not isinstance(card, dict) or not isinstance(card.get("sampling"), dict):
        raise UserError(f"{option} {path} does not say how it was made: wanted a video that mpgen generate wrote")
    read = {}
    for place, wanted in ((card, WANTED), (card["sampling"], WANTED_OF_SAMPLING)):
        for name, (fits, what) in wanted.items():
            if not fits(place.get(name)):
                raise UserError(f"{option} {path} says {name} {repr(place.get(name))[:40]} of itself: wanted {what}")
            read[name] = place[name]
    if card.get("prompts") is not None:
        read["prompt"] = None  # texts that changed on the way are not one text
    cache = card["sampling"].get("cache")
    if isinstance(cache, dict) and cache.get("name") in CACHES and cache["name"] != "mag_calibrate":
        read["cache"] = cache["name"]
        if _number(-1e-9, 1e6)(cache.get("threshold")):
            read["cache_threshold"] = cache["threshold"]
    return read


def expand(words: Sequence[str]) -> list[str]:
    """The words of `mpgen generate`, after the settings of the video that `--like` or `--branch` names.

    Raises:
        UserError: see `read_settings`.
    """
    rest, like = _without(words, "like")
    given = {word[2:].partition("=")[0] for word in rest if word.startswith("--")}
    source, option = (like, "--like") if like is not None else (_without(rest, "branch")[1], "--branch")
    if source is None or "help" in given:
        return list(words)
    settings = read_settings(Path(source), option)
    if settings["prompt"] is None and not {"prompt", "prompts"} & given:
        raise UserError(f"{option} {source} was made with texts that changed: wanted --prompt or --prompts with it")
    if not given.intersection(STARTS):
        rest = [f"--branch={source}", "--section=1", *rest]  # from its own first frames
    elif "branch" not in given and "world" not in given:
        settings["seconds"] = settings["num_sections"] * settings["section_frames"] / settings["fps"]
    if not given & {"scene", "world", "suite", "height_px", "width_px", "resolution"}:
        settings["height_px"], settings["width_px"] = video_size(Path(source))
    return [*_options(settings, given), *rest]


def _options(settings: Mapping[str, Any], given: set[str]) -> list[str]:
    """The settings as command-line arguments, without those given explicitly and those that are not options."""
    left_out = {"num_sections", "section_frames", "context_frames", *given}
    if given & {"prompts", "scene", "world", "suite"}:
        left_out.add("prompt")
    if not settings["negative_prompt"]:
        left_out.add("negative_prompt")
    return [f"--{name}={value}" for name, value in settings.items() if name not in left_out and value is not None]


def _without(words: Sequence[str], name: str) -> tuple[list[str], str | None]:
    """The words without an option, and its value; None if it is not there.

    Raises:
        UserError: it has no value.
    """
    rest, value, following = [], None, iter(words)
    for word in following:
        if word == f"--{name}":
            value = next(following, None)
            if value is None:
                raise UserError(f"--{name}: wanted a video after it")
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return rest, value
