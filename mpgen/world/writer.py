"""Renders a world into a folder: `videos/`, `truth/`, `manifest.csv` and, when all is there, `world.json`.

Each video depends on the seed, its split and its number alone, and appears under its name only when whole: a run that
was killed goes on where it stopped, a world that is there already costs nothing, and the same settings always give the
same bytes. A folder has one writer; who comes second waits.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mpgen.atomic import sole_writer, write_text
from mpgen.errors import UserError
from mpgen.video.workers import Failure, run_in_workers
from mpgen.video.writing import VideoWriter
from mpgen.world.render import render_chunks
from mpgen.world.settings import WorldSettings
from mpgen.world.truth import build_truth
from mpgen.world.truth_files import save_truth
from mpgen.world.videos import WorldVideo, scene_of, world_videos

WORLD_VERSION = 2  # goes up whenever the same settings would give other pictures
SOURCE = "world"  # the collection that a world's videos are of, wherever its folder lies
CRF = 12
RENDER_SECONDS = 1800.0  # for one video
_DONE, _BEGUN = "world.json", "world.unfinished.json"


@dataclass(frozen=True)
class WorldSummary:
    """What a folder holds now, and how much of it was made just now."""

    root: Path
    videos: tuple[WorldVideo, ...]
    rendered: int


def load_settings(root: Path) -> WorldSettings:
    """What a finished world was made with.

    Raises:
        UserError: the folder is not a finished world.
    """
    try:
        stored = json.loads((root / _DONE).read_text(encoding="utf-8"))["settings"]
        return WorldSettings(**{name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{root}: wanted a folder that `mpgen world` has finished, with {_DONE}") from error


def render_world(settings: WorldSettings, root: Path, processes: int = 2, overwrite: bool = False) -> WorldSummary:
    """Makes the world's files in `root`, or only those that are missing.

    Args:
        settings: what to render.
        root: the folder; made if missing.
        processes: how many videos are rendered at a time.
        overwrite: replace a world that was rendered with other settings.

    Raises:
        UserError: `root` holds a world with other settings and `overwrite` is false, or it cannot be written to.
    """
    videos = world_videos(settings)
    if processes < 1:
        raise UserError(f"--processes {processes}: wanted at least 1")
    record = {"version": WORLD_VERSION, "settings": asdict(settings)}
    signature = json.dumps(record, indent=2) + "\n"
    if _read(root / _DONE) == signature:  # also on a disk that nobody may write to
        return WorldSummary(root, videos, rendered=0)
    with sole_writer(root, "renders a world"):
        for mark in (root / _DONE, root / _BEGUN):
            there = _read(mark)
            if there not in (None, signature):
                if not overwrite:
                    raise UserError(f"{mark}: {_difference(there, record)}; choose another folder or add --overwrite")
                _clear(root)
        if _read(root / _DONE) == signature:  # the one waited for has made it
            return WorldSummary(root, videos, rendered=0)
        return WorldSummary(root, videos, _render_missing(settings, root, videos, processes, signature))


def render_video(settings: WorldSettings, root: Path, video: WorldVideo) -> None:
    """Writes one video and its truth; the video comes last, so a video that is there has its truth."""
    scene = scene_of(settings, video)
    visible = []
    size = settings.size_px
    with VideoWriter(root / "videos" / f"{video.name}.mp4", settings.fps, size, size, crf=CRF) as writer:
        for chunk in render_chunks(scene, size):
            visible.append(chunk.visible)
            for frame in chunk.frames:
                writer.write(frame)
        truth = build_truth(video.name, scene, np.concatenate(visible), size)
        save_truth(truth, root / "truth" / f"{video.name}.json")


def _render_missing(
    settings: WorldSettings, root: Path, videos: Sequence[WorldVideo], processes: int, signature: str
) -> int:
    """Renders what is not there; returns how many videos that was."""
    for folder in (root / "videos", root / "truth"):
        folder.mkdir(parents=True, exist_ok=True)
        for half_written in folder.glob(".*.tmp*"):  # of a run that was killed: nobody else writes here
            half_written.unlink()
    write_text(root / _BEGUN, signature)
    missing = [video for video in videos if not (root / "videos" / f"{video.name}.mp4").is_file()]
    done = _rendered(settings, root, missing, min(processes, len(missing)))
    for _ in tqdm(done, desc="world", unit="video", total=len(missing), disable=None):
        pass
    write_text(root / "manifest.csv", _manifest(settings, videos))
    os.replace(root / _BEGUN, root / _DONE)
    return len(missing)


def _rendered(
    settings: WorldSettings, root: Path, videos: Sequence[WorldVideo], processes: int
) -> Iterator[WorldVideo]:
    """The videos as they get done; processes of their own end with this one, however it ends."""
    render = partial(render_video, settings, root)
    if processes <= 1:
        for video in videos:
            render(video)
            yield video
        return
    for video, outcome in run_in_workers(render, videos, processes, RENDER_SECONDS):
        if isinstance(outcome, Failure):
            raise UserError(f"{root / 'videos' / video.name}.mp4: not rendered: {outcome.detail} ({outcome.reason})")
        yield video


def _manifest(settings: WorldSettings, videos: Sequence[WorldVideo]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["video", "caption", "split", "source", "family", "pixel_frames", "fps"])
    for video in videos:
        caption, file = scene_of(settings, video).caption, f"videos/{video.name}.mp4"
        table.writerow([file, caption, video.split, SOURCE, video.family, video.pixel_frames, settings.fps])
    return text.getvalue()


def _read(mark: Path) -> str | None:
    try:
        return mark.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""


def _difference(there: str, record: dict) -> str:
    try:
        stored = json.loads(there)
        settings, version = stored["settings"], stored["version"]
    except (ValueError, TypeError, KeyError):
        return "is not the record of a world"
    if version != record["version"]:
        return f"was rendered by version {version} of the world, wanted version {record['version']}"
    wanted = json.loads(json.dumps(record["settings"]))
    return "was rendered with " + ", ".join(
        f"{key} {settings.get(key)} (now {value})" for key, value in wanted.items() if settings.get(key) != value
    )


def _clear(root: Path) -> None:
    """Removes what a world consists of, and nothing else that may be in the folder."""
    for name in (_DONE, _BEGUN, "manifest.csv"):
        (root / name).unlink(missing_ok=True)
    for name in ("videos", "truth"):
        shutil.rmtree(root / name, ignore_errors=True)
