"""Which videos are compared: a folder DIR/METHOD/NAME.mp4, or a CSV with the columns method, prompt, video.

Videos of the same name (the same prompt) are compared with each other. What a rater could tell methods apart by, and a
server cannot hide (size, rate, length), is found here and reported before the study starts.
"""

import csv
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mpgen.errors import UserError, printable
from mpgen.video.errors import VideoError
from mpgen.video.opening import open_video

PLAYABLE = ("h264", "vp8", "vp9", "av1")  # by every current browser
PIXELS = ("yuv420p", "yuvj420p")


@dataclass(frozen=True)
class Video:
    """A file of one method for one prompt."""

    path: Path
    seconds: float
    fps: float
    height_px: int
    width_px: int


@dataclass(frozen=True)
class Cell:
    """What is compared: two methods (in the order of the alphabet) on one prompt."""

    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class Library:
    """All videos by (prompt, method); `rejected` are those that cannot be shown, a line each."""

    videos: Mapping[tuple[str, str], Video]
    rejected: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        return sorted({method for _, method in self.videos})

    @property
    def prompts(self) -> list[str]:
        return sorted({prompt for prompt, _ in self.videos})

    def without(self, broken: Mapping[tuple[str, str], str]) -> "Library":
        """The library without these videos, each with the reason."""
        videos = {key: video for key, video in self.videos.items() if key not in broken}
        return Library(videos, (*self.rejected, *broken.values()))

    def cells(self) -> list[Cell]:
        """Every two methods that have a video of the same prompt."""
        return [
            Cell(prompt, first, second)
            for prompt in self.prompts
            for first, second in itertools.combinations(self.methods, 2)
            if (prompt, first) in self.videos and (prompt, second) in self.videos
        ]

    def warnings(self) -> Iterator[str]:
        """What gives a method away, or is missing: a line each."""
        for prompt in self.prompts:
            missing = [method for method in self.methods if (prompt, method) not in self.videos]
            if missing:
                yield f"{prompt}: no video of {', '.join(missing)}"
            shown = {method: self.videos[prompt, method] for method in self.methods if method not in missing}
            sizes = {f"{video.width_px}x{video.height_px}" for video in shown.values()}
            rates = {f"{video.fps:.3g}" for video in shown.values()}
            seconds = [video.seconds for video in shown.values()]
            if len(sizes) > 1:
                yield f"{prompt}: sizes differ ({', '.join(sorted(sizes))}), which a rater may see"
            if len(rates) > 1:
                yield f"{prompt}: frame rates differ ({', '.join(sorted(rates))}), which a rater may see"
            if max(seconds) - min(seconds) > 0.5:
                yield f"{prompt}: lengths differ ({min(seconds):.1f} to {max(seconds):.1f} s), which a rater sees"


def read_library(source: Path) -> Library:
    """The videos of a folder or of a CSV.

    Raises:
        UserError: nothing to compare, or a bad row.
    """
    videos: dict[tuple[str, str], Video] = {}
    rejected: list[str] = []
    for key, path in (_from_folder(source) if source.is_dir() else _from_csv(source)).items():
        try:
            videos[key] = _inspect(path)
        except VideoError as error:
            rejected.append(str(error))
    library = Library(videos, tuple(rejected))
    require_pairs(library, source)
    return library


def require_pairs(library: Library, source: Path) -> None:
    """
    Raises:
        UserError: there is nothing to compare.
    """
    rejected, videos = library.rejected, library.videos
    if rejected and not library.cells():
        raise UserError(
            f"{source}: {len(rejected)} of {len(rejected) + len(videos)} videos cannot be shown: {rejected[0]}"
        )
    if len(library.methods) < 2:
        raise UserError(
            f"{source}: has videos of {', '.join(library.methods) or 'no method'}, wanted two methods or more, as "
            "METHOD/NAME.mp4 (--videos)"
        )
    if not library.cells():
        raise UserError(f"{source}: no two methods have a video of the same name, wanted the same names in each METHOD")


def _from_folder(folder: Path) -> dict[tuple[str, str], Path]:
    paths = (path for path in sorted(folder.glob("*/*.mp4")) if not path.name.startswith("."))
    return {(printable(path.stem), printable(path.parent.name)): path for path in paths}


def _from_csv(table: Path) -> dict[tuple[str, str], Path]:
    if not table.is_file():
        raise UserError(f"{table} does not exist, wanted a folder of METHOD/NAME.mp4 or a CSV (--videos)")
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: cannot be read as a CSV: {error}") from error
    found: dict[tuple[str, str], Path] = {}
    for number, row in enumerate(rows, start=2):
        cells = {name: (row.get(name) or "").strip() for name in ("method", "prompt", "video")}
        if empty := [name for name, cell in cells.items() if not cell]:
            raise UserError(f"{table} row {number}: has no `{empty[0]}`, wanted the columns method, prompt and video")
        key = cells["prompt"], cells["method"]
        if key in found:
            raise UserError(f"{table} row {number}: a second video of {key[1]} for {key[0]}, wanted one")
        found[key] = table.parent / cells["video"]
    return found


def _inspect(path: Path) -> Video:
    """Raises VideoError for a file that is missing, broken, or not for browsers."""
    with open_video(path) as (_, stream):
        codec = stream.codec_context
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
        name = stream.codec.canonical_name
        if name not in PLAYABLE or codec.pix_fmt not in PIXELS:
            raise VideoError(
                path,
                "not_playable",
                f"is {name} {codec.pix_fmt}, which not every browser plays; wanted H.264 yuv420p",
            )
    if fps <= 0 or seconds <= 0:
        raise VideoError(path, "corrupt_open", "does not say its rate and length")
    return Video(path, seconds, fps, codec.height, codec.width)
