"""A folder of generated videos against the world they were generated from: `mpgen evaluate --world`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mpgen.errors import UserError
from mpgen.video.clips import read_video
from mpgen.world.scoring.aggregate import shuffled_identities
from mpgen.world.scoring.charts import plot_curves, plot_recall
from mpgen.world.scoring.tables import COPY, GENERATED, SHUFFLED, TRUTH, Skipped, as_record, table
from mpgen.world.scoring.video import VideoScores, score_video
from mpgen.world.truth_files import load_truth


@dataclass(frozen=True)
class _Given:
    """What a generator was given: true frames at the start, and how many frames it made at a time."""

    context_frames: int
    section_frames: int


def score_world(world: Path, videos: Path, output: Path, section_frames: int, references: bool) -> dict[str, Any]:
    """Prints a table, draws curves.png and recall.png, and gives back what belongs into scores.json.

    Each NAME.mp4 is compared with truth/NAME.json and videos/NAME.mp4 of the world. A NAME.json beside it may hold
    `context_frames` (true frames given to the generator, the start image included; 1 if absent) and `section_frames`.
    What cannot be scored is listed with its reason.

    Args:
        world: the folder that `mpgen world` made.
        videos: the folder of generated videos.
        output: where curves.png and recall.png go.
        section_frames: frames generated at a time, where no NAME.json says so.
        references: also score the true videos (the ceiling), a copy of the last given frame, and the true videos with
            their hidden objects exchanged (the floors).

    Raises:
        UserError: it is no world, or none of the videos could be scored.
    """
    if not (world / "truth").is_dir():
        raise UserError(f"{world}: has no folder `truth`; wanted the folder that `mpgen world` made (--world)")
    paths = sorted(videos.glob("*.mp4"))
    if not paths:
        raise UserError(f"{videos}: has no mp4 file; wanted the folder of generated videos (--videos)")
    scores: dict[str, list[VideoScores]] = {who: [] for who in (GENERATED, TRUTH, COPY)[: 3 if references else 1]}
    skipped: list[Skipped] = []
    for path in paths:
        try:
            for who, score in _score(world, path, section_frames, references).items():
                scores[who].append(score)
        except UserError as error:
            skipped.append(Skipped(path.name, str(error)))
    for video in skipped:
        print(f"no world scores of {video.video}: {video.reason}")
    if not scores[GENERATED]:
        raise UserError(
            f"{videos}: none of {len(paths)} videos could be scored; {skipped[0].video}: {skipped[0].reason}"
        )
    if references:
        scores[SHUFFLED] = shuffled_identities(scores[TRUTH])
    print(f"world: {len(scores[GENERATED])} videos scored, {len(skipped)} skipped; mean ±95 % interval (count)")
    print(table(scores))
    plot_curves(scores, output / "curves.png")
    plot_recall(scores, output / "recall.png")
    return as_record(scores, skipped)


def _score(world: Path, path: Path, section_frames: int, references: bool) -> dict[str, VideoScores]:
    truth_path = world / "truth" / f"{path.stem}.json"
    if not truth_path.is_file():
        raise UserError(f"no truth {truth_path}")
    truth = load_truth(truth_path)
    given = _read_given(path.with_suffix(".json"), section_frames)
    true_frames = read_video(world / "videos" / path.name)
    candidates = {GENERATED: read_video(path)}
    if references:
        candidates[TRUTH] = true_frames[: len(candidates[GENERATED])]
        candidates[COPY] = copy_last(candidates[TRUTH], given.context_frames)
    return {
        who: score_video(frames, truth, true_frames, given.context_frames, given.section_frames)
        for who, frames in candidates.items()
    }


def copy_last(true_frames: UInt8[np.ndarray, "t h w 3"], context_frames: int) -> UInt8[np.ndarray, "t h w 3"]:
    """The given frames, and then the last of them for ever."""
    return true_frames[np.minimum(np.arange(len(true_frames)), context_frames - 1)]


def _read_given(path: Path, section_frames: int) -> _Given:
    if not path.is_file():
        return _Given(1, section_frames)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return _Given(int(record.get("context_frames", 1)), int(record.get("section_frames", section_frames)))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: wanted a JSON object with whole numbers context_frames, section_frames") from error
