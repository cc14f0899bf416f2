"""The JSON beside a video: what `mpgen generate`, or another generator, says of the file of the same name.

All keys are optional: `prompt`, `method`; `context_frames`, true frames at the start that were given to the model;
`generated`, a list of [first, stop) frames in the order they were made; or what `mpgen generate` writes: `order` (f0 is
the last section first), `section_frames` and `num_sections`, which also say how many frames the video has when whole.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mpgen.errors import UserError


@dataclass(frozen=True)
class Generated:
    """Which frames the model made, in the order it made them.

    Args:
        spans: [first, stop) frames, in the order they were made; None for all after the given ones.
        given: frames at the start that were given to the model.
    """

    spans: tuple[tuple[int, int], ...] | None = None
    given: int = 0

    def order(self, num_frames: int) -> Int[np.ndarray, " n"]:
        """The frames' numbers; those beyond the end of the video are skipped."""
        spans = self.spans if self.spans is not None else ((self.given, num_frames),)
        frames = [np.arange(first, min(stop, num_frames)) for first, stop in spans]
        return np.concatenate(frames) if frames else np.zeros(0, np.int64)


ALL_GENERATED = Generated()


@dataclass(frozen=True)
class Sidecar:
    """What is known of a video; a file without a JSON was made from its first frame on, in the order of time.

    Args:
        prompt: empty if unknown.
        method: likewise.
        generated: what in it was generated.
        promised_frames: how many it has when whole; None if nothing says so.
    """

    prompt: str = ""
    method: str = ""
    generated: Generated = ALL_GENERATED
    promised_frames: int | None = None


def sidecar_of(video: Path) -> Path:
    return video.parent / f"{video.stem}.json"


def read_sidecar(video: Path) -> Sidecar:
    """What the JSON beside a video says.

    Raises:
        UserError: it is no JSON object, or a key holds something else.
    """
    path = sidecar_of(video)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Sidecar()
    except (OSError, UnicodeDecodeError) as error:
        # A name of 255 bytes has no room for another ending: nothing can lie beside it.
        if isinstance(error, OSError) and len(path.name.encode(errors="replace")) > 255:
            return Sidecar()
        raise UserError(f"{path}: cannot be read: {error}") from error
    try:
        return parse_card(json.loads(text))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path}: wanted a JSON object; `generated` as a list of [first, stop), `context_frames` a whole number"
        ) from error


def parse_card(card: dict[str, Any]) -> Sidecar:
    """What such an object says.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: it holds something else.
    """
    given = int(card.get("context_frames", 0))
    spans, promised = None, None
    if "section_frames" in card and "num_sections" in card:
        section, sections = int(card["section_frames"]), int(card["num_sections"])
        promised = given + section * sections
        if card.get("order") == "f0":
            spans = tuple((given + k * section, given + (k + 1) * section) for k in reversed(range(sections)))
    elif card.get("order") == "f0":
        raise KeyError("section_frames")
    if "generated" in card:
        spans = tuple((int(first), int(stop)) for first, stop in card["generated"])
        if any(first < 0 or stop <= first for first, stop in spans):
            raise ValueError("a span that is empty or begins before the video")
    prompt, method = str(card.get("prompt") or ""), str(card.get("method") or "")
    return Sidecar(prompt, method, Generated(spans, given), promised)
