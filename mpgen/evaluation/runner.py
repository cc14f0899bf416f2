"""One video to its result: one decode feeds every probe, and what was measured is kept on disk for the next run.

Traces lie under the SHA-256 of the video and of what measured it (version, weights, precision, colours), so a renamed
video costs nothing and a changed one is measured anew; a new metric measures old videos alone. A fault of one video or
of one probe is listed with that video and ends nothing else.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mpgen.errors import UserError
from mpgen.evaluation.frames import Probe
from mpgen.evaluation.metric import ProbeSource
from mpgen.evaluation.results import Scoring, VideoResult, score_video
from mpgen.evaluation.stream import Colour, FrameStream, video_info
from mpgen.evaluation.suite import Skipped, Video
from mpgen.evaluation.trace import Trace, load_trace, merge, save_trace
from mpgen.video.errors import VideoError

TRACE_VERSION = 2
WHOLE = 0.9  # of the promised seconds: other generators round lengths to their own sections


@dataclass(frozen=True)
class Plan:
    """What to do with every video; it travels to the worker processes.

    Args:
        sources: the probes.
        scoring: what is made of what they measure.
        folder: where traces and the list of results go.
        colour: how colours are read, see `FrameStream`.
        chunk_frames: at a time; more on a GPU.
        log: the JSONL file that results are appended to as they come; of two lines on one video the later one holds.
    """

    sources: tuple[ProbeSource, ...]
    scoring: Scoring
    folder: Path
    colour: Colour
    chunk_frames: int
    log: Path


@dataclass(frozen=True)
class Measured:
    """One video's trace, what is wrong with the file, and the probes that failed and why."""

    trace: Trace
    sha256: str
    note: str
    failed: Mapping[str, str]


class Evaluator:
    """Measures one video after another; probes are made when the first video needs them.

    Args:
        plan: what to do.
        device: where.
        on_frames: told how many frames have just been measured.
    """

    def __init__(self, plan: Plan, device: torch.device, on_frames: Callable[[int], object] = int) -> None:
        self.plan, self.device, self.on_frames = plan, device, on_frames
        self._probes: dict[str, Probe] = {}
        self._unmade: dict[str, str] = {}  # probes that could not be made, and why; they are not tried again

    def __call__(self, video: Video) -> VideoResult | Skipped:
        try:
            measured = self.measure(video.path)
            require_whole(video, measured.trace)
            result = score_video(
                video, measured.trace, self.plan.scoring, measured.sha256, measured.note, measured.failed
            )
        # The one place where any fault of a video, its file or its size is caught: the others must still be scored.
        except Exception as error:
            result = Skipped(video.name, _reason(error))
        _append(self.plan.log, result)
        return result

    def measure(self, path: Path) -> Measured:
        """
        Raises:
            VideoError: there is no frame in it.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        places = {source.probe: self._place(sha256, source) for source in self.plan.sources}
        missing = [source for source in self.plan.sources if not places[source.probe].is_file()]
        fresh = {source.probe for source in missing}
        kept = [load_trace(place) for probe, place in places.items() if probe not in fresh]
        failed: dict[str, str] = {}
        if missing:
            traces, note, failed = self._decode(path, missing)
            for probe, trace in traces.items():
                save_trace(trace, note, places[probe])
                kept.append((trace, note))
        elif kept:
            self.on_frames(kept[0][0].num_frames)
        if not kept:
            raise UserError("; ".join(f"{probe}: {reason}" for probe, reason in failed.items()))
        return Measured(merge(trace for trace, _ in kept), sha256, kept[-1][1], failed)

    def _decode(self, path: Path, sources: Sequence[ProbeSource]) -> tuple[dict[str, Trace], str, dict[str, str]]:
        """The one decode: every probe is fed every chunk; one that fails drops out of this video."""
        stream = FrameStream(path, self.plan.chunk_frames, self.plan.colour)
        info = stream.info
        failed: dict[str, str] = {}
        working: dict[str, Probe] = {}
        for source in sources:
            with _noting(failed, source.probe):
                probe = self._made(source)
                probe.begin(info.fps, info.height_px, info.width_px)
                working[source.probe] = probe
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
                series = {name: probe.finish()}
                traces[name] = Trace(info.fps, stream.num_frames, info.height_px, info.width_px, series)
        return traces, stream.note, failed

    def _made(self, source: ProbeSource) -> Probe:
        if source.probe not in self._probes and source.probe not in self._unmade:
            with _noting(self._unmade, source.probe):
                self._probes[source.probe] = source.make().to(self.device)
        if source.probe in self._unmade:
            raise UserError(self._unmade[source.probe])
        return self._probes[source.probe]

    def _place(self, sha256: str, source: ProbeSource) -> Path:
        identity = f"{TRACE_VERSION} {source.probe} {source.identity} {self.plan.colour}"
        key = hashlib.sha256(identity.encode()).hexdigest()
        return self.plan.folder / "traces" / f"{sha256[:24]}-{source.probe}-{key[:12]}.npz"


def require_whole(video: Video, trace: Trace) -> None:
    """A video counts only when it is as long as was promised: by its JSON, by the file itself, or by the manifest.

    Raises:
        VideoError: it is shorter, as a generation that was killed leaves it.
    """
    frames, seconds = video.promised_frames or video_info(video.path).promised_frames, video.promised_seconds
    if frames is not None and trace.num_frames < frames:
        raise VideoError(
            video.path, "unfinished", f"has {trace.num_frames} of {frames} frames: the command that makes it goes on"
        )
    if seconds is not None and trace.seconds < WHOLE * seconds:
        raise VideoError(
            video.path, "unfinished", f"has {trace.seconds:.1f} of the {seconds:g} s that --manifest promises"
        )


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
        os.write(handle, f"{line}\n".encode(errors="backslashreplace"))
    finally:
        os.close(handle)
