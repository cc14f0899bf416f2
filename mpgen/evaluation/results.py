"""One video's numbers, small enough to keep for a whole suite: scores, drifts, curves, and a strip of pictures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mpgen.evaluation import reduce
from mpgen.evaluation.dimensions import Dimension
from mpgen.evaluation.drift import Drift, DriftSettings, drift
from mpgen.evaluation.suite import Video, length_group
from mpgen.evaluation.trace import Trace

CLIP_SECONDS = 2.0


@dataclass(frozen=True)
class Scoring:
    """What is made of a trace.

    Args:
        dimensions: which scores.
        drift: the convention of drift.
        long: average over clips of 2 s, as VBench-Long does.
    """

    dimensions: tuple[Dimension, ...]
    drift: DriftSettings
    long: bool = False


@dataclass(frozen=True)
class Curve:
    """A score over time: middles of the windows in seconds, and the mean there."""

    seconds: Float[np.ndarray, " w"]
    means: Float[np.ndarray, " w"]


@dataclass(frozen=True)
class VideoResult:
    """All that is kept of one video.

    Args:
        name: see `Video`.
        method: likewise.
        prompt: likewise.
        sha256: of the file.
        fps: frames a second.
        num_frames: that were looked at.
        height_px: of a frame.
        width_px: of a frame.
        note: what is wrong with the file; empty if nothing.
        failed: probes that could not look at it, and why.
        scores: by dimension; absent if it has none.
        counts: how many numbers each is the mean of.
        drifts: by dimension.
        curves: by dimension.
        strip: small pictures.
        strip_frames: and the frames they show.
    """

    name: str
    method: str
    prompt: str
    sha256: str
    fps: float
    num_frames: int
    height_px: int
    width_px: int
    note: str
    failed: Mapping[str, str]
    scores: Mapping[str, float]
    counts: Mapping[str, int]
    drifts: Mapping[str, Drift]
    curves: Mapping[str, Curve]
    strip: UInt8[np.ndarray, "n h w 3"]
    strip_frames: tuple[int, ...]

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps

    @property
    def length(self) -> str:
        return length_group(self.seconds)

    def record(self) -> dict[str, Any]:
        """What JSON can hold, without pictures."""
        plain = ("name", "method", "prompt", "sha256", "fps", "num_frames", "height_px", "width_px", "note")
        return {
            **{key: getattr(self, key) for key in plain},
            "seconds": round(self.seconds, 3),
            "length": self.length,
            "failed": dict(self.failed),
            "scores": dict(self.scores),
            "drift": {name: asdict(value) for name, value in self.drifts.items()},
            "curves": {
                name: {"seconds": curve.seconds.round(3).tolist(), "means": curve.means.round(6).tolist()}
                for name, curve in self.curves.items()
            },
        }


def score_video(
    video: Video, trace: Trace, scoring: Scoring, sha256: str, note: str, failed: Mapping[str, str]
) -> VideoResult:
    """Every dimension whose probe has looked at the video, and that it is long enough for."""
    scores, counts, drifts, curves = {}, {}, {}, {}
    probes = {name.split("/")[0] for name in trace.arrays}
    for dimension in scoring.dimensions:
        if dimension.probe not in probes:
            continue
        whole = dimension.score(trace)
        value = _over_clips(trace, dimension) if scoring.long else whole.value
        if value is None:
            continue
        scores[dimension.name], counts[dimension.name] = value, len(whole.series)
        seconds, means = reduce.curve(whole, trace.fps, scoring.drift.window_seconds)
        curves[dimension.name] = Curve(seconds, means)
        found = drift(trace, dimension, video.generated, scoring.drift)
        if found is not None:
            drifts[dimension.name] = found
    has_strip = "strip/pictures" in trace
    return VideoResult(
        name=video.name,
        method=video.method,
        prompt=video.prompt,
        sha256=sha256,
        fps=trace.fps,
        num_frames=trace.num_frames,
        height_px=trace.height_px,
        width_px=trace.width_px,
        note=note,
        failed=failed,
        scores=scores,
        counts=counts,
        drifts=drifts,
        curves=curves,
        strip=trace["strip/pictures"] if has_strip else np.zeros((0, 1, 1, 3), np.uint8),
        strip_frames=tuple(trace["strip/frame"].tolist()) if has_strip else (),
    )


def _over_clips(trace: Trace, dimension: Dimension) -> float | None:
    """The mean over clips, cut from the trace. VBench-Long writes each clip to a file again, which costs some quality.

    It also can add a score of clip against clip, which is not done here.
    """
    clips = reduce.clips(trace.num_frames, trace.fps, CLIP_SECONDS)
    values = [dimension.score(trace.take(clip)).value for clip in clips]
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
