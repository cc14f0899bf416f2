"""One video's numbers, small enough to keep for a whole suite: scores, drifts, curves, and a strip of pictures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mpgen.evaluation.drift import Drift, DriftSettings, drift
from mpgen.evaluation.film_strip import FilmStrip
from mpgen.evaluation.long_clips import mean_over_clips
from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.scores import Score
from mpgen.evaluation.statistics import curve
from mpgen.evaluation.suite import Video, length_group
from mpgen.evaluation.trace import Trace


@dataclass(frozen=True)
class Scoring:
    """What is made of a trace.

    Args:
        metrics: which scores.
        drift: the convention of drift.
        long: average over clips of 2 s, as VBench-Long does.
    """

    metrics: tuple[type[VideoMetric], ...]
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
        video: which.
        sha256: of the file.
        fps: frames per second.
        num_frames: that were measured.
        height_px: of a frame.
        width_px: of a frame.
        note: what is wrong with the file; empty if nothing.
        failed: probes that could not measure it, and why.
        scores: by metric; absent if it has none.
        drifts: by metric.
        curves: by metric.
        strip: small pictures.
        strip_frames: and the frames they show.
    """

    video: Video
    sha256: str
    fps: float
    num_frames: int
    height_px: int
    width_px: int
    note: str
    failed: Mapping[str, str]
    scores: Mapping[str, Score]
    drifts: Mapping[str, Drift]
    curves: Mapping[str, Curve]
    strip: UInt8[np.ndarray, "n h w 3"]
    strip_frames: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.video.name

    @property
    def method(self) -> str:
        return self.video.method

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps

    @property
    def length(self) -> str:
        return length_group(self.seconds)

    @property
    def faults(self) -> str:
        """What is wrong, in one line; empty if nothing."""
        failed = [f"{probe}: {reason}" for probe, reason in self.failed.items()]
        return "; ".join(([self.note] if self.note else []) + failed)

    def record(self) -> dict[str, Any]:
        """What JSON can hold, without pictures."""
        plain = ("sha256", "fps", "num_frames", "height_px", "width_px", "note")
        return {
            "name": self.name,
            "method": self.method,
            "prompt": self.video.prompt,
            **{key: getattr(self, key) for key in plain},
            "seconds": round(self.seconds, 3),
            "length": self.length,
            "failed": dict(self.failed),
            "scores": {name: score.value for name, score in self.scores.items()},
            "drift": {name: asdict(value) for name, value in self.drifts.items()},
            "curves": {
                name: {"seconds": one.seconds.round(3).tolist(), "means": one.means.round(6).tolist()}
                for name, one in self.curves.items()
            },
        }


def score_video(
    video: Video, trace: Trace, scoring: Scoring, sha256: str, note: str, failed: Mapping[str, str]
) -> VideoResult:
    """Every metric whose probe has measured the video, and that it is long enough for."""
    scores, drifts, curves = {}, {}, {}
    for metric in scoring.metrics:
        if metric.name not in trace:
            continue
        score = metric.score(trace)
        seconds, means = curve(score, trace.fps, scoring.drift.window_seconds)
        if scoring.long:
            score = replace(score, value=mean_over_clips(trace, metric))
        if score.value is None:
            continue
        scores[metric.name], curves[metric.name] = score, Curve(seconds, means)
        found = drift(trace, metric, video.generated, scoring.drift)
        if found is not None:
            drifts[metric.name] = found
    strip = trace.series.get(FilmStrip.name)
    return VideoResult(
        video=video,
        sha256=sha256,
        fps=trace.fps,
        num_frames=trace.num_frames,
        height_px=trace.height_px,
        width_px=trace.width_px,
        note=note,
        failed=failed,
        scores=scores,
        drifts=drifts,
        curves=curves,
        strip=np.zeros((0, 1, 1, 3), np.uint8) if strip is None else strip.values,
        strip_frames=() if strip is None else tuple(strip.frame.tolist()),
    )
