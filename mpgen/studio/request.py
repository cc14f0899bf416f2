"""One wish of a user in plain values, and what `mpgen generate` makes of it."""

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from mpgen.atomic import replacing
from mpgen.errors import UserError
from mpgen.generation.denoising import Denoising
from mpgen.generation.starts.base import MAX_SECONDS, Start
from mpgen.generation.starts.branch import FromBranch
from mpgen.generation.starts.image import FromImage
from mpgen.generation.starts.scene import FromScene
from mpgen.generation.starts.video import FromVideo

MAX_PROMPT = 100_000  # letters, of all texts together
Kind = Literal["scene", "image", "video", "branch"]


@dataclass(frozen=True)
class Request:
    """A video to make.

    Args:
        kind: what it begins from.
        source: name of the scene; of the others, of a file in the studio's own folder.
        prompt: the text; for a scene its own caption if empty, for a branch the video's own.
        later: texts that change on the way, one a line: seconds, a colon, the text.
        section: of a branch, the first that is made anew.
        seconds: length of what is made.
        endless: until it is stopped; the text can be changed while it runs.
        own_pace: endless, no faster than the video plays.
        readings: record what each section reads.
        denoising: options of `Denoising`, by name.
    """

    kind: Kind
    source: str
    prompt: str = ""
    later: str = ""
    section: int = 1
    seconds: float = 5.0
    endless: bool = False
    own_pace: bool = False
    readings: bool = False
    denoising: Mapping[str, Any] | None = None

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Request":
        """The inverse of `plain`.

        Raises:
            UserError: a key is unknown.
        """
        if unknown := set(plain) - {f.name for f in fields(cls)}:
            raise UserError(f"a request has no {', '.join(sorted(unknown))}")
        return cls(**plain)

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def options(self) -> Denoising:
        """How it is denoised.

        Raises:
            UserError: a value is out of range.
        """
        given, hints = dict(self.denoising or {}), get_type_hints(Denoising)
        if unknown := set(given) - set(hints):
            raise UserError(f"denoising has no {', '.join(sorted(unknown))}")
        return Denoising(**given)

    def start(self, folder: Path, script: Path) -> Start:
        """What it begins from.

        Args:
            folder: of the studio, whose files are named.
            script: where the texts that change on the way are written.

        Raises:
            UserError: a value is out of range or a file cannot be used.
        """
        if len(self.prompt) + len(self.later) > MAX_PROMPT:
            raise UserError(f"prompts of {len(self.prompt) + len(self.later):,} letters: wanted at most {MAX_PROMPT:,}")
        seconds = float(MAX_SECONDS) if self.endless else self.seconds
        prompts = self._write_script(script)
        text = self.prompt.strip() or None
        start: Start
        if self.kind == "scene":
            start = FromScene(self.source, text, prompts, seconds=seconds)
        elif self.kind == "image":
            start = FromImage(folder / self.source, text or "", prompts, seconds=seconds)
        elif self.kind == "video":
            start = FromVideo(folder / self.source, text or "", prompts, seconds=seconds)
        else:
            start = FromBranch(folder / self.source, self.section, text, prompts, seconds)
        start.check_files()
        return start

    def _write_script(self, path: Path) -> Path | None:
        rows = [line.strip() for line in self.later.splitlines() if line.strip()]
        if not rows:
            return None
        if self.endless:
            raise UserError("later prompts of an endless video: wanted none, say them while it runs")
        with replacing(path) as half_written, half_written.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["seconds", "prompt"])
            if not rows[0].startswith(("0:", "0 :")) and (self.prompt.strip() or self.kind != "scene"):
                writer.writerow(["0", self.prompt.strip()])
            for row in rows:
                seconds, colon, text = row.partition(":")
                if not colon:
                    raise UserError(f"later prompt {row[:40]!r}: wanted seconds, a colon and the text, as in 4: a cat")
                writer.writerow([seconds.strip(), text.strip()])
        return path
