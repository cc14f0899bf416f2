"""`mpgen evaluate`: videos scored by the paper's metrics where their weights are, and by proxies always."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from mpgen.data.parts import Part
from mpgen.data.suite import read_suite
from mpgen.errors import UserError
from mpgen.evaluation.drift import DriftSettings, Reference
from mpgen.evaluation.film_strip import STRIP
from mpgen.evaluation.metric import RANDOM, Averaging, Precision, ProbeSource, VideoMetric, Weights
from mpgen.evaluation.metrics import choose
from mpgen.evaluation.output import write_evaluation
from mpgen.evaluation.processes import run
from mpgen.evaluation.results import Scoring, VideoResult
from mpgen.evaluation.runner import Plan
from mpgen.evaluation.stream import Colour, video_info
from mpgen.evaluation.suite import Skipped, Video, find_videos
from mpgen.evaluation.summary import summarise, worst_first
from mpgen.evaluation.tables import Evaluation
from mpgen.evaluation.vbench.listing import listing
from mpgen.evaluation.vbench.weights import require_folder
from mpgen.evaluation.world import NO_WORLD, score_methods
from mpgen.machine import check_processes
from mpgen.sections import DRIFT_SHARE
from mpgen.video.errors import VideoError

# One by one on a CPU: a frame is still in the caches when the next probe measures it.
CHUNK_FRAMES_CPU, CHUNK_FRAMES_GPU = 16, 64


def evaluate(
    videos: Path | None = None,
    output: Path | None = None,
    weights: Weights = None,
    world: Path | None = None,
    metrics: Sequence[str] | str = ("vbench", "proxies"),
    manifest: Path | None = None,
    device: str | None = None,
    workers: int = 1,
    precision: Precision = "fp32",
    part: str | None = None,
    drift_fraction: float = DRIFT_SHARE,
    drift_reference: Reference = "segment",
    averaging: Averaging = "video",
    long: bool = False,
    colour: Colour = "tagged",
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
        metrics: one or several, as [imaging,subject]; "vbench" and "proxies" name all of theirs; your own class by its
            import path, as my_metrics.Flicker.
        manifest: a CSV with a column name, and any of method, prompt, image, seconds: which videos count, whose they
            are, and how long they should be.
        device: where the networks run, or several such as cuda:0,cuda:1; all GPUs if there are any.
        workers: processes on each device.
        precision: of the networks; bf16 is faster, and scores differ slightly.
        part: i/n measures the i-th of n shares of the videos only; afterwards the command without it, in the same
            output folder, makes the report.
        drift_fraction: of the generated frames, at each end.
        drift_reference: what the ends' consistency is measured against: their own first frame, or the whole video's.
        averaging: every video alike, or by frames where VBench (on one GPU) does so: the two consistencies.
        long: average over clips of 2 s, as VBench-Long does (without writing them anew).
        colour: convert by the colour matrix that a file is tagged with, as VBench's readers do, or ignore the tag.
        section_frames: with --world, frames generated at a time where no JSON beside a video says so.
        references: with --world, also score the true videos and a copy of the given frames.
        list_weights: print the weights' names, owners, sizes, checksums, licences and download lines, and end.
    """
    if list_weights:
        print(listing(None if weights in (None, RANDOM) else Path(weights)))
        return
    if videos is None or output is None:
        missing = " and ".join(name for name, given in (("--videos", videos), ("--output", output)) if given is None)
        raise UserError(f"{missing} missing: wanted a folder of videos (--videos) and one for results (--output)")
    names = tuple(metrics.split(",")) if isinstance(metrics, str) else tuple(metrics)
    chosen = choose(names)
    settings = DriftSettings(drift_fraction, drift_reference)
    share = None if part is None else Part.parse(part)
    devices = _devices(device, workers)
    if world is not None and not (world / "truth").is_dir():
        raise UserError(f"{world}: has no folder `truth`; wanted the folder that `mpgen world` made (--world)")
    if weights not in (None, RANDOM):
        require_folder(Path(weights))
    found, skipped = find_videos(videos, output, None if manifest is None else read_suite(manifest, "--manifest"))
    if not found:
        raise UserError(f"{videos}: has no video{_first_of(skipped)}; wanted the folder of generated videos (--videos)")
    sources, absent = _sources(chosen, weights, precision)

    queue = _longest_first(found)
    if share is not None:
        queue = queue[share.number - 1 :: share.count]
    _make_folder(output)
    plan = Plan(
        sources=(*sources, STRIP),
        scoring=Scoring(tuple(metric for metric in chosen if metric.name not in absent), settings, long),
        folder=output,
        colour=colour,
        chunk_frames=CHUNK_FRAMES_CPU if "cpu" in devices else CHUNK_FRAMES_GPU,
        log=output / ("results.jsonl" if share is None else f"results.{share.name}.jsonl"),
    )
    results, failed = _run(plan, queue, devices)
    skipped += failed
    for one in skipped:
        print(f"not scored: {one.video}: {one.reason}")
    if share is not None:
        again = f"mpgen evaluate --videos {videos} --output {output}"
        print(f"part {part}: {len(results)} videos, {plan.log}\nafter all parts, for the report:\n  {again} ...")
        return
    of_world = NO_WORLD if world is None else score_methods(world, found, output, section_frames, references)
    if not results:
        raise UserError(f"{videos}: none of {len(found)} videos could be scored{_first_of(skipped)}")
    absent |= _unscored(plan.scoring.metrics, results)
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
        convention=str(settings),
        metrics=tuple(metric for metric in plan.scoring.metrics if metric.name not in absent),
        absent={metric.name: absent[metric.name] for metric in chosen if metric.name in absent},
        titles={metric.name: metric.title for metric in chosen},
        weights={name: what for source in sources for name, what in source.weights.items()},
        groups=tuple(summarise(results, plan.scoring.metrics, averaging)),
        results=tuple(worst_first(results, plan.scoring.metrics)),
        skipped=tuple(skipped),
        warnings=tuple(_warnings(queue, colour, weights)),
    )
    write_evaluation(evaluation, output, of_world)


def _sources(
    metrics: Sequence[type[VideoMetric]], weights: Weights, precision: Precision
) -> tuple[list[ProbeSource], dict[str, str]]:
    """The probes of these metrics, and the metrics that have none, each with the reason."""
    sources, absent = [], {}
    for metric in metrics:
        try:
            sources.append(metric.probe_source(weights, precision))
        except UserError as error:
            absent[metric.name] = str(error)
    return sources, absent


def _unscored(metrics: Sequence[type[VideoMetric]], results: Sequence[VideoResult]) -> dict[str, str]:
    """Metrics that no video has a score of, and the reason that most of them give."""
    reasons = {}
    for metric in metrics:
        if not any(metric.name in result.scores for result in results):
            given = Counter(result.failed.get(metric.name, "no video is long enough") for result in results)
            reasons[metric.name] = given.most_common(1)[0][0]
    return reasons


def _run(plan: Plan, queue: "Sequence[_Queued]", devices: Sequence[str]) -> tuple[list[VideoResult], list[Skipped]]:
    results: list[VideoResult] = []
    failed: list[Skipped] = []
    total = sum(one.frames for one in queue)
    with tqdm(total=total, unit="frame", desc="evaluate", smoothing=0.05, disable=None) as bar:
        for done in run(plan, [one.video for one in queue], devices, bar.update):
            (results if isinstance(done, VideoResult) else failed).append(done)
            bar.set_postfix_str(f"{len(results)} of {len(queue)} videos", refresh=False)
    return results, failed


@dataclass(frozen=True)
class _Queued:
    """A video, how many frames its header promises, and whether it is tagged with a colour matrix."""

    video: Video
    frames: int
    pixels: int
    tagged: bool


def _longest_first(videos: Sequence[Video]) -> list[_Queued]:
    """So that no process is left alone with a long one at the end; what cannot be opened comes last and fails then."""
    queue = []
    for video in videos:
        try:
            info = video_info(video.path)
            frames = info.num_frames
            queue.append(_Queued(video, frames, frames * info.height_px * info.width_px, info.tagged))
        except VideoError:
            queue.append(_Queued(video, 0, 0, False))
    return sorted(queue, key=lambda one: -one.pixels)


def _warnings(queue: Sequence[_Queued], colour: Colour, weights: Weights) -> list[str]:
    warnings = []
    tagged = sum(one.tagged for one in queue)
    if tagged and colour == "ignore":
        warnings.append(
            f"{tagged} of {len(queue)} videos are tagged with a colour matrix, which --colour ignore ignores: VBench's "
            "own readers honour it, so these scores are a little off VBench's (--colour tagged for the same)"
        )
    if weights == RANDOM:
        warnings.append("weights: random. The networks' scores mean nothing.")
    return warnings


def _devices(device: str | None, workers: int) -> list[str]:
    """Each device as often as it has worker processes."""
    check_processes(workers, "--workers")
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    names = device.split(",") if device else gpus or ["cpu"]
    for name in names:
        if name != "cpu" and name not in (*gpus, *(["cuda"] if gpus else [])):
            raise UserError(f"--device {name}: wanted some of {', '.join(['cpu', *gpus])}")
    return names * workers


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be made: {error.strerror}; wanted a folder") from error


def _first_of(skipped: Sequence[Skipped]) -> str:
    return f" ({skipped[0].video}: {skipped[0].reason})" if skipped else ""
