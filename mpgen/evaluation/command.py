"""`mpgen evaluate`: videos scored by the paper's metrics where their weights are, and by proxies always."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from mpgen.data.suite import read_suite
from mpgen.errors import UserError
from mpgen.evaluation.dimensions import choose
from mpgen.evaluation.drift import DriftSettings, Reference
from mpgen.evaluation.looks import RANDOM, Weights, find_looks, list_weights_text, unscored
from mpgen.evaluation.report.page import write_page
from mpgen.evaluation.results import Scoring, VideoResult
from mpgen.evaluation.runner import Plan, run
from mpgen.evaluation.stream import Colour, video_info
from mpgen.evaluation.suite import Skipped, Video, find_videos
from mpgen.evaluation.summary import Averaging, summarise, worst_first
from mpgen.evaluation.tables import Evaluation, as_record, terminal_table, write_csv, write_json
from mpgen.video.errors import VideoError
from mpgen.world.evaluate import score_world

# One by one on a CPU: a frame is still in the caches when the next probe looks at it.
CHUNK_FRAMES_CPU, CHUNK_FRAMES_GPU = 16, 64


def evaluate(
    videos: Path | None = None,
    output: Path | None = None,
    weights: Path | Literal["random"] | None = None,
    world: Path | None = None,
    metrics: Sequence[str] | str = ("vbench", "proxies"),
    manifest: Path | None = None,
    device: str | None = None,
    workers: int = 1,
    precision: Literal["fp32", "bf16"] = "fp32",
    part: str | None = None,
    drift_fraction: float = 0.15,
    drift_reference: Reference = "segment",
    averaging: Averaging = "video",
    long: bool = False,
    colour: Colour = "ignore",
    section_frames: int = 16,
    references: bool = True,
    list_weights: bool = False,
) -> None:
    """Score videos: VBench's six dimensions as in the paper, drift, curves over time, and proxies that need no weights.

    Every video is decoded once. Results are kept as they come, so the same command goes on where it stopped. What comes
    out: a table, scores.json, videos.csv, and report.html, one page that needs no other file.

    Example: mpgen evaluate --videos samples --weights weights/vbench --output scores
    Example: mpgen evaluate --list_weights true

    Args:
        videos: a folder of videos; each sub-folder is a method.
        output: where results go.
        weights: the folder with the networks' weights (see --list_weights); "random" tries the way without any, and
            its scores mean nothing.
        world: the folder that `mpgen world` made, if the videos are of its scenes: also score them against its truth.
        metrics: one or several, as [imaging,subject]; "vbench" and "proxies" name all of theirs.
        manifest: a CSV with a column name, and any of method, prompt, image, seconds: which videos count, and whose
            they are.
        device: where the networks run, or several such as cuda:0,cuda:1; all GPUs if there are any.
        workers: processes on each device.
        precision: of the networks; bf16 is faster, and scores differ slightly.
        part: i/n looks at the i-th of n shares of the videos only; afterwards the command without it, in the same
            output folder, makes the report.
        drift_fraction: of the generated frames, at each end.
        drift_reference: what the ends' consistency is measured against: their own first frame, or the whole video's.
        averaging: every video alike, or by frames where VBench (on one GPU) does so: the two consistencies.
        long: average over clips of 2 s, as VBench-Long does (without writing them anew).
        colour: what to make of files tagged as BT.709: ignore the tag, as most of VBench does, or believe it.
        section_frames: with --world, frames generated at a time where no JSON beside a video says so.
        references: with --world, also score the true videos and a copy of the given frames.
        list_weights: print the weights' names, owners, sizes, checksums, licences and places, and end.
    """
    if list_weights:
        print(list_weights_text(weights))
        return
    if videos is None or output is None:
        missing = " and ".join(name for name, given in (("--videos", videos), ("--output", output)) if given is None)
        raise UserError(f"{missing} missing: wanted a folder of videos (--videos) and one for results (--output)")
    names = tuple(metrics.split(",")) if isinstance(metrics, str) else tuple(metrics)
    scoring = Scoring(choose(names), DriftSettings(drift_fraction, drift_reference), long)
    share = _share(part)
    devices = _devices(device, workers)
    if world is not None and not (world / "truth").is_dir():
        raise UserError(f"{world}: has no folder `truth`; wanted the folder that `mpgen world` made (--world)")
    found, skipped = find_videos(videos, output, None if manifest is None else read_suite(manifest, "--manifest"))
    if not found:
        raise UserError(f"{videos}: has no video{_first_of(skipped)}; wanted the folder of generated videos (--videos)")
    looks = find_looks(scoring.dimensions, weights, precision)

    queue = _longest_first(found)[share[0] - 1 :: share[1]]
    output.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        looks=looks.looks,
        scoring=Scoring(tuple(d for d in scoring.dimensions if d.name not in looks.absent), scoring.drift, long),
        folder=output,
        colour=colour,
        chunk_frames=CHUNK_FRAMES_CPU if "cpu" in devices else CHUNK_FRAMES_GPU,
        log=output / ("results.jsonl" if part is None else f"results.{share[0]}of{share[1]}.jsonl"),
    )
    results, failed = _run(plan, queue, devices)
    skipped += failed
    for video in skipped:
        print(f"not scored: {video.video}: {video.reason}")
    if part is not None:
        again = f"mpgen evaluate --videos {videos} --output {output}"
        print(f"part {part}: {len(results)} videos, {plan.log}\nafter all parts, for the report:\n  {again} ...")
        return
    record = {} if world is None else score_world(world, videos, output, section_frames, references)
    if not results:
        raise UserError(f"{videos}: none of {len(found)} videos could be scored{_first_of(skipped)}")
    absent = looks.absent | unscored(plan.scoring.dimensions, results)
    evaluation = Evaluation(
        settings={
            "videos": videos,
            "metrics": ", ".join(names),
            "manifest": manifest,
            "precision": precision,
            "averaging": averaging,
            "clips of 2 s": long,
            "colour": colour,
        },
        convention=str(scoring.drift),
        dimensions=tuple(d for d in plan.scoring.dimensions if d.name not in absent),
        absent=absent,
        weights=looks.weights,
        groups=tuple(summarise(results, plan.scoring.dimensions, averaging)),
        results=tuple(worst_first(results, plan.scoring.dimensions)),
        skipped=tuple(skipped),
        warnings=tuple(_warnings(queue, colour, weights)),
    )
    _write(evaluation, output, record)


def _run(plan: Plan, queue: "Sequence[_Queued]", devices: Sequence[str]) -> tuple[list[VideoResult], list[Skipped]]:
    results: list[VideoResult] = []
    failed: list[Skipped] = []
    total = sum(one.frames for one in queue)
    with tqdm(total=total, unit="frame", desc="evaluate", smoothing=0.05, disable=None) as bar:
        for done in run(plan, [one.video for one in queue], devices, bar.update):
            (results if isinstance(done, VideoResult) else failed).append(done)
            bar.set_postfix_str(f"{len(results)} of {len(queue)} videos", refresh=False)
    return results, failed


def _write(evaluation: Evaluation, output: Path, world_record: dict[str, Any]) -> None:
    for title, reason in evaluation.absent.items():
        print(f"absent: {title}: {reason}")
    for warning in evaluation.warnings:
        print(f"note: {warning}")
    print(f"{len(evaluation.results)} videos scored, {len(evaluation.skipped)} files not; x100, ± 95 % interval")
    print(terminal_table(evaluation))
    write_json({**world_record, "evaluation": as_record(evaluation)}, output / "scores.json")
    write_csv(evaluation, output / "videos.csv")
    drawn = {"World: scores by section": "curves.png", "World: recall of what was hidden": "recall.png"}
    pictures = [(title, output / name) for title, name in drawn.items()] if world_record else []
    write_page(evaluation, output / "report.html", pictures)
    print(f"{output / 'report.html'}, scores.json, videos.csv{', curves.png, recall.png' if world_record else ''}")


@dataclass(frozen=True)
class _Queued:
    """A video, how many frames its header promises, and whether it is tagged as BT.709."""

    video: Video
    frames: int
    pixels: int
    bt709: bool


def _longest_first(videos: Sequence[Video]) -> list[_Queued]:
    """So that no process is left alone with a long one at the end; what cannot be opened comes last and fails then."""
    queue = []
    for video in videos:
        try:
            info = video_info(video.path)
            queue.append(_Queued(video, info.num_frames, info.num_frames * info.height_px * info.width_px, info.bt709))
        except VideoError:
            queue.append(_Queued(video, 0, 0, False))
    return sorted(queue, key=lambda one: -one.pixels)


def _warnings(queue: Sequence[_Queued], colour: Colour, weights: Weights) -> list[str]:
    warnings = []
    tagged = sum(one.bt709 for one in queue)
    if tagged and colour == "ignore":
        warnings.append(
            f"{tagged} of {len(queue)} videos are tagged as BT.709; the tag is ignored, as by most of VBench, so "
            "colours are a little off (--colour tagged for the true ones)"
        )
    if weights == RANDOM:
        warnings.append("weights: random. The networks' scores mean nothing.")
    return warnings


def _share(part: str | None) -> tuple[int, int]:
    if part is None:
        return 1, 1
    numbers = part.split("/")
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        index, count = int(numbers[0]), int(numbers[1])
        if 1 <= index <= count:
            return index, count
    raise UserError(f"--part {part}: wanted i/n with i from 1 to n, such as 1/4")


def _devices(device: str | None, workers: int) -> list[str]:
    """Each device as often as it has worker processes."""
    if workers < 1:
        raise UserError(f"--workers {workers}: wanted at least 1")
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    names = device.split(",") if device else gpus or ["cpu"]
    for name in names:
        if name != "cpu" and name not in (*gpus, *(["cuda"] if gpus else [])):
            raise UserError(f"--device {name}: wanted some of {', '.join(['cpu', *gpus])}")
    return names * workers


def _first_of(skipped: Sequence[Skipped]) -> str:
    return f" ({skipped[0].video}: {skipped[0].reason})" if skipped else ""
