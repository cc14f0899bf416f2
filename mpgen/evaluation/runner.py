"""Videos to results: one decode feeds every probe, what was seen is kept on disk, and a rerun goes on where it stopped.

Traces lie under the SHA-256 of the video and of what looked at it (version, weights, precision, colours), so a renamed
video costs nothing and a changed one is looked at anew; a new metric looks at old videos alone. A fault of one video or
of one probe is listed with that video and ends nothing else.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import torch

from mpgen.errors import UserError
from mpgen.evaluation.frames import Probe
from mpgen.evaluation.probes import SquareView
from mpgen.evaluation.proxies import Proxies, Strip
from mpgen.evaluation.results import Scoring, VideoResult, score_video
from mpgen.evaluation.stream import Colour, FrameStream
from mpgen.evaluation.suite import Skipped, Video
from mpgen.evaluation.trace import Trace, load_arrays, merge, save_arrays

TRACE_VERSION = 1
_META = "meta"


@dataclass(frozen=True)
class Look:
    """A probe that can be made, and what its traces depend on.

    Args:
        probe: its name.
        identity: version, weights' checksum, precision: another identity, another trace.
        make: makes it on a device, with a view that all may share; called when the first video needs it.
    """

    probe: str
    identity: str
    make: Callable[[torch.device, SquareView], Probe]


def make_proxies(device: torch.device, view: SquareView) -> Probe:
    return Proxies()


def make_strip(device: torch.device, view: SquareView) -> Probe:
    return Strip()


WEIGHT_FREE = (
    Look(Proxies.name, f"version {Proxies.version}", make_proxies),
    Look(Strip.name, f"version {Strip.version}", make_strip),
)


@dataclass(frozen=True)
class Plan:
    """What to do with every video; it travels to the worker processes.

    Args:
        looks: the probes.
        scoring: what is made of what they saw.
        folder: where traces and the list of results go.
        colour: how colours are read, see `FrameStream`.
        chunk_frames: at a time; more on a GPU.
        log: the JSONL file that results are appended to as they come; of two lines on one video the later one holds.
    """

    looks: tuple[Look, ...]
    scoring: Scoring
    folder: Path
    colour: Colour
    chunk_frames: int
    log: Path


@dataclass(frozen=True)
class Seen:
    """What came of looking at one video: its trace, what is wrong with the file, and the probes that failed and why."""

    trace: Trace
    sha256: str
    note: str
    failed: Mapping[str, str]


class Evaluator:
    """Looks at one video after another; probes are made when the first video needs them.

    Args:
        plan: what to do.
        device: where.
        on_frames: told how many frames have just been looked at.
    """

    def __init__(self, plan: Plan, device: torch.device, on_frames: Callable[[int], object] = int) -> None:
        self.plan, self.device, self.on_frames = plan, device, on_frames
        self._view = SquareView()
        self._probes: dict[str, Probe] = {}
        self._unmade: dict[str, str] = {}  # probes that could not be made, and why; they are not tried again

    def __call__(self, video: Video) -> VideoResult | Skipped:
        try:
            seen = self.look(video.path)
            result = score_video(video, seen.trace, self.plan.scoring, seen.sha256, seen.note, seen.failed)
        # The one place where any fault of a video, its file or its size is caught: the others must still be scored.
        except Exception as error:
            result = Skipped(video.name, _reason(error))
        _append(self.plan.log, result)
        return result

    def look(self, path: Path) -> Seen:
        """
        Raises:
            VideoError: there is no frame in it.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        places = {look.probe: self._place(sha256, look) for look in self.plan.looks}
        missing = [look for look in self.plan.looks if not places[look.probe].is_file()]
        kept = [_load(place) for probe, place in places.items() if probe not in {look.probe for look in missing}]
        failed: dict[str, str] = {}
        if missing:
            fresh, note, failed = self._decode(path, missing)
            for probe, trace in fresh.items():
                _save(trace, note, places[probe])
                kept.append((trace, note))
        elif kept:
            self.on_frames(kept[0][0].num_frames)
        if not kept:
            raise UserError("; ".join(f"{probe}: {reason}" for probe, reason in failed.items()))
        return Seen(merge(trace for trace, _ in kept), sha256, kept[-1][1], failed)

    def _decode(self, path: Path, looks: Sequence[Look]) -> tuple[dict[str, Trace], str, dict[str, str]]:
        """The one decode: every probe sees every chunk; one that fails drops out of this video."""
        stream = FrameStream(path, self.plan.chunk_frames, self.plan.colour)
        info = stream.info
        failed: dict[str, str] = {}
        working: dict[str, Probe] = {}
        for look in looks:
            with _noting(failed, look.probe):
                probe = self._made(look)
                probe.begin(info.fps, info.height_px, info.width_px)
                working[look.probe] = probe
        for frames in stream:
            on_device = replace(frames, pixels=frames.pixels.to(self.device, non_blocking=True))
            for name, probe in list(working.items()):
                with _noting(failed, name):
                    probe.feed(on_device)
                if name in failed:
                    del working[name]
            self.on_frames(len(frames.pixels))
        traces = {}
        for name, probe in working.items():
            with _noting(failed, name):
                traces[name] = Trace(info.fps, stream.num_frames, info.height_px, info.width_px, probe.finish())
        return traces, stream.note, failed

    def _made(self, look: Look) -> Probe:
        if look.probe not in self._probes and look.probe not in self._unmade:
            with _noting(self._unmade, look.probe):
                self._probes[look.probe] = look.make(self.device, self._view)
        if look.probe in self._unmade:
            raise UserError(self._unmade[look.probe])
        return self._probes[look.probe]

    def _place(self, sha256: str, look: Look) -> Path:
        identity = f"{TRACE_VERSION} {look.probe} {look.identity} {self.plan.colour}"
        key = hashlib.sha256(identity.encode()).hexdigest()
        return self.plan.folder / "traces" / f"{sha256[:24]}-{look.probe}-{key[:12]}.npz"


def run(
    plan: Plan, videos: Sequence[Video], devices: Sequence[str], on_frames: Callable[[int], object]
) -> Iterator[VideoResult | Skipped]:
    """Results as they come: in this process with one device, else in a process for each (a device may be named twice).

    Raises:
        UserError: a worker process was killed; what was done is kept.
    """
    if len(devices) == 1:
        evaluator = Evaluator(plan, torch.device(devices[0]), on_frames)
        yield from map(evaluator, videos)
        return
    context = get_context("spawn")
    places = context.Queue()
    for device in devices:
        places.put(device)
    with ProcessPoolExecutor(len(devices), context, _start_worker, (plan, places, len(devices))) as pool:
        waiting = [pool.submit(_work, video) for video in videos]
        try:
            for done in as_completed(waiting):
                result = done.result()
                yield result
                on_frames(result.num_frames if isinstance(result, VideoResult) else 0)
        except BrokenProcessPool as error:
            raise UserError("a worker process was killed (out of memory?); the same command goes on") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(plan: Plan, places: Queue, workers: int) -> None:
    global _evaluator
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    _evaluator = Evaluator(plan, torch.device(places.get()))


_evaluator: Evaluator


def _work(video: Video) -> VideoResult | Skipped:
    return _evaluator(video)


class _noting:
    """Writes an error down under a probe's name and goes on: a small picture or a full GPU fails one probe only."""

    def __init__(self, failed: dict[str, str], name: str) -> None:
        self.failed, self.name = failed, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self.failed[self.name] = _reason(error)
        return True


def _reason(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else ""
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"


def _append(log: Path, result: VideoResult | Skipped) -> None:
    """One write to a file opened for appending, so lines of several processes do not mix."""
    line = json.dumps(result.record() if isinstance(result, VideoResult) else vars(result), ensure_ascii=False)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def _save(trace: Trace, note: str, place: Path) -> None:
    meta = {key: getattr(trace, key) for key in ("fps", "num_frames", "height_px", "width_px")} | {"note": note}
    save_arrays({**trace.arrays, _META: np.array(json.dumps(meta))}, place)


def _load(place: Path) -> tuple[Trace, str]:
    arrays = load_arrays(place)
    meta = json.loads(str(arrays.pop(_META)))
    note = meta.pop("note")
    return Trace(arrays=arrays, **meta), note
