"""Scores on disk: one line a clip, only ever appended to, so a killed run loses nothing but the clip at hand.

    DATA/scores/<settings hash>/settings.json
                                part_1_of_4.jsonl

A score belongs to a file of one size; another file under the same name is scored again.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from mpgen.atomic import replacing
from mpgen.data.curate.scores import FPS, HEIGHT_PX, WIDTH_PX, ClipScores
from mpgen.data.parts import Part
from mpgen.errors import UserError
from mpgen.video.workers import Failure

SCORES_VERSION = 1  # raise it when the same settings would give other numbers


@dataclass(frozen=True)
class ScoreSettings:
    """What scores depend on, besides the clip.

    Args:
        shots: look for cuts.
        transnet: hash of the weights; empty without TransNetV2.
        raft: hash of the weights; empty without RAFT.
        fps: frames looked at in a second.
        height_px: of the frames looked at.
        width_px: likewise.
        version: of the code.
    """

    shots: bool = True
    transnet: str = ""
    raft: str = ""
    fps: int = FPS
    height_px: int = HEIGHT_PX
    width_px: int = WIDTH_PX
    version: int = SCORES_VERSION

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ScoredClip:
    """A line: what a clip of a file of so many bytes came to (-1 if there is no file)."""

    uid: str
    size: int
    outcome: ClipScores | Failure

    def to_json(self) -> str:
        name = "failure" if isinstance(self.outcome, Failure) else "scores"
        return json.dumps({"uid": self.uid, "size": self.size, name: asdict(self.outcome)})

    @classmethod
    def from_json(cls, line: str) -> "ScoredClip":
        values = json.loads(line)
        failed = "failure" in values
        outcome = Failure(**values["failure"]) if failed else ClipScores.from_json(values["scores"])
        return cls(values["uid"], values["size"], outcome)


def file_size(path: Path) -> int:
    """Bytes; -1 if there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def scores_folder(data: Path, settings: ScoreSettings) -> Path:
    """The folder of these settings; made if missing."""
    folder = data / "scores" / settings.hash
    with replacing(folder / "settings.json") as half_written:
        half_written.write_text(json.dumps(asdict(settings), indent=1) + "\n", encoding="utf-8")
    return folder


def find_scores(data: Path, settings_hash: str | None) -> Path:
    """The folder of scores with this hash (or its beginning), or the only one.

    Raises:
        UserError: there is none, or more than one.
    """
    folders = sorted(file.parent for file in (data / "scores").glob("*/settings.json"))
    chosen = [folder for folder in folders if folder.name.startswith(settings_hash or "")]
    if len(chosen) == 1:
        return chosen[0]
    if not folders:
        raise UserError(f"{data}: has no scores yet; `mpgen data score {data}` makes them")
    names = "; ".join(f"{folder.name} {_brief(folder)}" for folder in folders)
    raise UserError(f"{data}/scores: wanted one of these as --scores: {names}")


def _brief(folder: Path) -> str:
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return str({name: value for name, value in settings.items() if name in ("shots", "transnet", "raft", "version")})


def read_scores(folder: Path) -> dict[str, ScoredClip]:
    """By uid, from all parts; of several lines on a clip the last counts.

    Raises:
        UserError: a line that is whole is not a score.
    """
    found = {}
    for file in sorted(folder.glob("part_*.jsonl"), key=lambda file: (file.stat().st_mtime_ns, file.name)):
        lines = file.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                scored = ScoredClip.from_json(line)
            except json.JSONDecodeError:  # cut off when a run was killed
                continue
            except (TypeError, KeyError) as error:
                raise UserError(f"{file} line {number}: is not a score ({error}); remove the line") from error
            found[scored.uid] = scored
    return found


@contextmanager
def appending(folder: Path, part: Part) -> Iterator[TextIO]:
    """The file of a part, to add lines to; a line that was cut off before stays apart from the next."""
    path = folder / f"{part.name}.jsonl"
    torn = path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8", newline="\n") as file:
        if torn:
            file.write("\n")
        yield file
