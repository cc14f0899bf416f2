"""`mpgen data plan`: show the curriculum that a run would follow."""

from pathlib import Path
from typing import Literal

import numpy as np

from mpgen.data.cache import CacheDirectory, CacheSettings, open_cache
from mpgen.data.curriculum import Curriculum, Groups, Sorted, plan_epoch, summarise_plan
from mpgen.data.manifest import read_training_records
from mpgen.errors import UserError

BAR = 40


def plan(
    data: Path,
    /,
    world_size: int = 1,
    batch_size: int = 1,
    curriculum: Curriculum = Sorted(),  # noqa: B008 (frozen)
    seed: int = 0,
    epoch: int = 0,
    split: Literal["train", "val"] = "train",
    fingerprint: str | None = None,
) -> None:
    """Show the number of steps in an epoch, the video lengths in them, and which videos are shortened or left out.

    Example: mpgen data plan DATA --world_size 32 --batch_size 1
    Example: mpgen data plan DATA --curriculum Staged --curriculum.stages [[1,2000],[4,500]]

    Args:
        data: the folder with manifest.csv and cache.
        world_size: number of ranks (GPUs).
        batch_size: videos a rank takes in one step.
        curriculum: Sorted (the paper's), Shuffled, Staged or Excerpts.
        seed: another seed gives another order.
        epoch: likewise.
        split: of the manifest.
        fingerprint: which cache, if DATA holds several; the beginning of its name is enough.
    """
    if world_size < 1 or batch_size < 1:
        raise UserError(f"--world_size {world_size} --batch_size {batch_size}: wanted at least 1 rank and 1 video")
    directory = CacheDirectory.find(data / "cache", fingerprint)
    index = open_cache(read_training_records(data / "manifest.csv")[0], directory)
    counts = np.array([entry.num_sections for entry in index.split(split)])
    if not len(counts):
        raise UserError(f"{directory.path}: no usable video in split `{split}`, see {index.rejects_file}")
    groups = plan_epoch(
        counts, world_size=world_size, batch_size=batch_size, seed=seed, epoch=epoch, curriculum=curriculum
    )
    print(f"{directory.path}: {directory.settings.summary}")
    print(f"{world_size} ranks x {batch_size} videos, {curriculum}, seed {seed}, epoch {epoch}")
    print("\n".join(describe(groups, counts, directory.settings)))


def describe(groups: Groups, counts: np.ndarray, settings: CacheSettings) -> list[str]:
    """The plan in a few lines and a histogram; `counts` are the sections of each video."""
    made = summarise_plan(groups, counts)
    size = groups.items.shape[1]
    sections = int(counts.sum())
    lines = [
        f"there are: {len(counts)} videos, {sections} sections, {settings.hours(sections, len(counts)):.2f} h",
        f"planned: {made.steps} steps of {size} videos, {made.sections} sections, "
        f"{settings.hours(made.sections, made.videos):.2f} h",
        f"shortened: {made.shortened} ({made.shortened / made.videos:.2%} of those planned); not used: {made.unused}"
        + (f"; seen more than once: {made.repeated}" if made.repeated else ""),
        "",
        f"{'sections':>8} {'steps':>8} {'videos':>8} {'hours':>8}",
    ]
    most = max(made.steps_by_sections.values())
    for length, steps in made.steps_by_sections.items():
        videos = steps * size
        bar = "#" * max(1, round(BAR * steps / most))
        lines.append(f"{length:>8} {steps:>8} {videos:>8} {settings.hours(videos * length, videos):>8.2f} {bar}")
    return lines
