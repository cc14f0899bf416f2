"""A prompt that changes on the way: a file of times and texts."""

import csv
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path

from mpgen.configs import parse_yaml
from mpgen.errors import UserError


@dataclass(frozen=True)
class Prompts:
    """The text at any time of the video.

    Args:
        seconds: from when each text holds, rising, the first 0.
        texts: as many.
    """

    seconds: tuple[float, ...]
    texts: tuple[str, ...]

    def at(self, seconds: float) -> str:
        """The text of a section that begins at `seconds`; a change inside a section waits for the next one."""
        held = [text for begin, text in zip(self.seconds, self.texts, strict=True) if begin <= seconds + 1e-6]
        return held[-1]

    def plain(self) -> dict[str, list] | None:
        """As it is kept beside a video; None for a single text, which is then the video's prompt."""
        return {"seconds": list(self.seconds), "texts": list(self.texts)} if len(self.texts) > 1 else None


class LivePrompts:
    """Texts that are given while the video is made: each holds from the next section on.

    Args:
        opening: the text at the beginning.
    """

    def __init__(self, opening: str):
        self.said = Prompts((0.0,), (opening,))
        self.next = opening

    @property
    def texts(self) -> tuple[str, ...]:
        """Those so far."""
        return self.said.texts

    def say(self, text: str) -> None:
        """From any thread: the text from the next section on."""
        self.next = text

    def at(self, seconds: float) -> str:
        """The text of a section that begins then, which does not change any more."""
        text = self.next
        if seconds > self.said.seconds[-1] and text != self.said.texts[-1]:
            self.said = Prompts((*self.said.seconds, seconds), (*self.said.texts, text))
        return self.said.at(seconds)

    def plain(self) -> dict[str, list] | None:
        """What was said so far, as `Prompts` has it."""
        return self.said.plain()


def read_prompts(path: Path, opening: str | None = None) -> Prompts:
    """A schedule: a CSV with the columns `seconds` and `prompt`, or a YAML mapping of seconds to prompts.

    Args:
        path: ends in .csv, .yaml or .yml.
        opening: the text until the first time in the file, if that is not 0.

    Raises:
        UserError: when it cannot be read, says nothing, or its times do not rise from 0.
    """
    if not path.is_file():
        raise UserError(f"--prompts {path} does not exist")
    try:
        rows = _rows_of_csv(path) if path.suffix == ".csv" else _rows_of_yaml(path)
    except UserError:
        raise
    except (ValueError, csv.Error) as error:
        raise UserError(f"--prompts {path} cannot be read: {str(error).splitlines()[0]}") from error
    if not rows:
        raise UserError(f"--prompts {path} holds no prompt: wanted lines of seconds and prompt")
    pairs = [(_seconds(path, place, given), text) for place, given, text in rows]
    if pairs[0][0] > 0 and opening is not None:
        pairs.insert(0, (0.0, opening))
    if pairs[0][0] != 0:
        raise UserError(f"--prompts {path} begins at {pairs[0][0]:g} s: wanted a prompt at 0 s, there or as --prompt")
    for (before, _), (after, text) in pairwise(pairs):
        if after <= before:
            raise UserError(
                f"--prompts {path}: {after:g} s ({text[:30]!r}) comes after {before:g} s: wanted rising times"
            )
    return Prompts(tuple(seconds for seconds, _ in pairs), tuple(text for _, text in pairs))


def _rows_of_csv(path: Path) -> list[tuple[str, object, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or not {"seconds", "prompt"} <= set(reader.fieldnames):
            raise UserError(f"--prompts {path} has the columns {reader.fieldnames}: wanted seconds and prompt")
        return [(f"line {reader.line_num}", row["seconds"], row["prompt"] or "") for row in reader]


def _rows_of_yaml(path: Path) -> list[tuple[str, object, str]]:
    tree = parse_yaml(path.read_text(encoding="utf-8"))
    if tree is None:
        return []
    if not isinstance(tree, dict):
        raise UserError(f"--prompts {path}: wanted lines such as `4.5: a cat sleeps`")
    return [(f"key {seconds!r}", seconds, str(text)) for seconds, text in tree.items()]


def _seconds(path: Path, place: str, given: object) -> float:
    try:
        seconds = float(given)
        if not isfinite(seconds):
            raise ValueError(given)
        return seconds
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"--prompts {path} {place}: {given!r} is not a number of seconds") from None
