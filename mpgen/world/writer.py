"""Render a world into a folder: `videos/`, `truth/`, `manifest.csv` and, when all is there, `world.json`.

Each video depends on the seed, its split and its number alone, and appears under its name only when whole: a run
that was killed goes on where it stopped, and a world that is there already costs nothing.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mpgen.atomic import replacing
from mpgen.errors import UserError
from mpgen.video.writing import VideoWriter
from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.render import render_chunks
from mpgen.world.scenes import Scene
from mpgen.world.settings import WorldSettings
from mpgen.world.truth import build_truth, save_truth

WORLD_VERSION = 2  # goes up whenever the same settings would give other pictures
CRF = 12
_DONE, _BEGUN = "world.json", "world.unfinished.json"


@dataclass(frozen=True)
class VideoPlan:
    """Which story one video of a world will tell."""

    split: str
    index: int
    family: str
    pixel_frames: int

    @property
    def name(self) -> str:
        return f"{self.split}_{self.index:05d}_{self.family}"


@dataclass(frozen=True)
class WorldSummary:
    """What a folder holds now, and how much of it was made just now."""

    root: Path
    plans: tuple[VideoPlan, ...]
    rendered: int


def plan_world(settings: WorldSettings) -> tuple[VideoPlan, ...]:
    """The videos of a world: families in turn by their weights, and each family's lengths in turn.

    Raises:
        UserError: a family does not exist.
    """
    unknown = set(settings.families) - set(FAMILIES)
    if unknown:
        raise UserError(f"world families {sorted(unknown)}: {', '.join(FAMILIES)} are wanted")
    plans = []
    for split, count in (("train", settings.train_videos), ("val", settings.val_videos)):
        shares = (
            settings.families if split == "train" else {name: float(w > 0) for name, w in settings.families.items()}
        )
        families = _in_turn(shares)
        lengths = settings.lengths(split)
        turns = {family: _in_turn(lengths) for family in settings.families}
        for index in range(count):
            family = next(families)
            plans.append(VideoPlan(split, index, family, next(turns[family])))
    return tuple(plans)


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


def scene_of(settings: WorldSettings, plan: VideoPlan) -> Scene:
    """The story of one video, which follows from the world's seed, the video's split and its number."""
    return sample_scene(settings, plan.family, plan.pixel_frames, (("train", "val").index(plan.split), plan.index))


def render_world(settings: WorldSettings, root: Path, processes: int = 2, overwrite: bool = False) -> WorldSummary:
    """Make the world's files in `root`, or only those that are missing.

    Args:
        settings: what to render.
        root: the folder; made if missing.
        processes: how many videos are rendered at a time.
        overwrite: replace a world that was rendered with other settings.

    Raises:
        UserError: `root` holds a world with other settings and `overwrite` is false.
    """
    plans = plan_world(settings)
    record = {"version": WORLD_VERSION, "settings": asdict(settings)}
    signature = json.dumps(record, indent=2) + "\n"
    for mark in (root / _DONE, root / _BEGUN):
        if mark.is_file() and mark.read_text(encoding="utf-8") != signature:
            if not overwrite:
                raise UserError(f"{mark}: {_difference(mark, record)}; choose another folder or add --overwrite")
            _clear(root)
    if (root / _DONE).is_file():
        return WorldSummary(root, plans, rendered=0)
    for folder in (root / "videos", root / "truth"):
        folder.mkdir(parents=True, exist_ok=True)
    _write_text(root / _BEGUN, signature)
    missing = [plan for plan in plans if not (root / "videos" / f"{plan.name}.mp4").is_file()]
    _render_all(settings, root, missing, min(processes, len(missing)))
    _write_text(root / "manifest.csv", _manifest(settings, plans))
    os.replace(root / _BEGUN, root / _DONE)
    return WorldSummary(root, plans, rendered=len(missing))


def render_video(settings: WorldSettings, root: Path, plan: VideoPlan) -> None:
    """Write one video and its truth; the video comes last, so a video that is there has its truth."""
    scene = scene_of(settings, plan)
    visible = []
    size = settings.size_px
    with VideoWriter(root / "videos" / f"{plan.name}.mp4", settings.fps, size, size, crf=CRF) as video:
        for chunk in render_chunks(scene, size):
            visible.append(chunk.visible)
            for frame in chunk.frames:
                video.write(frame)
        truth = build_truth(plan.name, scene, np.concatenate(visible), size)
        save_truth(truth, root / "truth" / f"{plan.name}.json")


def _render_all(settings: WorldSettings, root: Path, plans: list[VideoPlan], processes: int) -> None:
    render = partial(render_video, settings, root)
    # Spawned, not forked: the caller may already have started threads of torch.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn")) if processes > 1 else None
    done: Iterable[None] = map(render, plans) if pool is None else pool.map(render, plans, chunksize=4)
    try:
        for _ in tqdm(done, desc="world", unit="video", total=len(plans), disable=None):
            pass
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)  # who is told to stop does not wait for what has not begun


def _in_turn(weights: dict[Any, float]) -> Iterator[Any]:
    """Names in an order in which, at every point, each has come up in proportion to its weight."""
    total, taken = sum(weights.values()), dict.fromkeys(weights, 0)
    count = 0
    while True:
        count += 1
        name = max(weights, key=lambda name: weights[name] / total * count - taken[name])
        taken[name] += 1
        yield name


def _manifest(settings: WorldSettings, plans: tuple[VideoPlan, ...]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["video", "caption", "split", "family", "pixel_frames", "fps"])
    for plan in plans:
        caption = scene_of(settings, plan).caption
        table.writerow([f"videos/{plan.name}.mp4", caption, plan.split, plan.family, plan.pixel_frames, settings.fps])
    return text.getvalue()


def _difference(mark: Path, record: dict) -> str:
    try:
        there = json.loads(mark.read_text(encoding="utf-8"))
        settings = there["settings"]
    except (ValueError, TypeError, KeyError):
        return "is not the record of a world"
    if there["version"] != record["version"]:
        return f"was rendered by version {there['version']} of the world, wanted version {record['version']}"
    wanted = json.loads(json.dumps(record["settings"]))
    return "was rendered with " + ", ".join(
        f"{key} {settings.get(key)} (now {value})" for key, value in wanted.items() if settings.get(key) != value
    )


def _clear(root: Path) -> None:
    """Remove what a world consists of, and nothing else that may be in the folder."""
    for name in (_DONE, _BEGUN, "manifest.csv"):
        (root / name).unlink(missing_ok=True)
    for name in ("videos", "truth"):
        shutil.rmtree(root / name, ignore_errors=True)


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
