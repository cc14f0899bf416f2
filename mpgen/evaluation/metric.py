"""One score as a torchmetrics class: what it is called, how a video's score follows from a trace, its mean over videos.

    metric = SubjectConsistency.from_weights(Path("weights"))
    metric.update(video, fps=24.0)  # uint8, frames x 3 x height x width; or a Trace
    metric.compute()

These classes are the only way to a score: `mpgen evaluate` scores and averages through them, and so does anybody else's
loop. A new score is one subclass (of `proxies.Proxy` if it needs no weights).
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torchmetrics import Metric

from mpgen.errors import UserError
from mpgen.evaluation.frames import Frames, Probe
from mpgen.evaluation.scores import Score
from mpgen.evaluation.trace import Trace

Averaging = Literal["video", "frame"]
Precision = Literal["fp32", "bf16"]
RANDOM = "random"
Weights = Literal["random"] | Path | None
CHUNK_FRAMES = 8


@dataclass(frozen=True)
class ProbeSource:
    """A probe that can be made, and what its traces depend on; it travels to worker processes.

    Args:
        probe: its name.
        identity: version, weights' checksums, precision: another identity, another trace.
        make: makes it, on the CPU; called when the first video needs it.
        weights: what each network's weights are, by the network's name.
    """

    probe: str
    identity: str
    make: Callable[[], Probe]
    weights: Mapping[str, str] = field(default_factory=dict)


class VideoMetric(Metric):
    """A mean over videos of what one probe measures.

    A subclass says its `name` (JSON, CSV, `--metrics`) and `title` (tables), and how a trace gives a score.

    Args:
        probe: measures the frames; None to score traces only.
        average: "video", or "frame" to weigh videos by their frames.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1  # raised when the same frames begin to give another trace
    higher_is_better: ClassVar[bool | None] = True  # None for what only describes
    drift_frames: ClassVar[int] = 1  # the fewest frames at each end for a drift (consistency needs two); 0 for none
    weighs_by_frames: ClassVar[bool] = False  # VBench (on one GPU) weighs videos by their frames in it
    drift_from_first_frame: ClassVar[bool] = False  # measured against the video's first frame, never the segment's own
    headline: ClassVar[bool] = True  # its drift is one of the paper's columns, or of the proxies' table
    curve_title: ClassVar[str] = ""  # where the curve shows something else than the score
    scale: ClassVar[float] = 100.0  # numbers are shown times this; the paper shows per cent

    is_differentiable = False
    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self, probe: Probe | None = None, average: Averaging = "video") -> None:
        super().__init__()
        assert probe is None or probe.name == self.name
        self.probe, self.average = probe, average
        # Sums, so that a rank without videos has what the others have: torchmetrics' empty lists are float32 always.
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        # NaN equals nothing, so a MetricCollection never takes two metrics for one because a first, still video gave
        # both the same score.
        self.add_state("ungrouped", torch.tensor(math.nan, dtype=torch.float64), dist_reduce_fx="sum")

    @classmethod
    @abstractmethod
    def score(cls, trace: Trace) -> Score:
        """One video's score."""

    @classmethod
    @abstractmethod
    def probe_source(cls, weights: Weights, precision: Precision) -> ProbeSource:
        """How its probe is made.

        Raises:
            UserError: its weights are not there.
        """

    def update(self, video: Shaped[Tensor, "..."] | Trace | Score, fps: float | int = 24.0) -> None:
        """Adds one video: its frames, its trace or its score.

        Raises:
            UserError: it is too short for this score, or no uint8 video.
        """
        score = self._scored(video, fps)
        weight = self.weight_of(score)
        self.total += weight * score.value
        self.weight += weight

    def forward(self, video: Shaped[Tensor, "..."] | Trace | Score, fps: float | int = 24.0) -> Float[Tensor, ""]:
        """Adds one video and returns its own score."""
        # Scored before torchmetrics puts the state aside: an error must not cost the videos that were there.
        return super().forward(self._scored(video, fps))

    def compute(self) -> Float[Tensor, ""]:
        """The mean over videos; NaN before the first."""
        return self.total / self.weight

    def weight_of(self, score: Score) -> float:
        """How much one video counts."""
        return float(len(score.series)) if self.average == "frame" else 1.0

    def set_dtype(self, dst_type: str | torch.dtype) -> "VideoMetric":
        """Changes nothing, as `_apply`."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> "VideoMetric":
        """Moves to a device, and keeps every dtype: sums stay float64, and a network in another precision than it was
        made in would be another score."""

        def moved(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            return made if made.dtype == tensor.dtype else tensor.to(made.device)

        return super()._apply(moved, exclude_state)

    def _scored(self, video: Shaped[Tensor, "..."] | Trace | Score, fps: float | int) -> Score:
        if isinstance(video, Score):
            score, length = video, "this video"
        else:
            trace = video if isinstance(video, Trace) else self._traced(video, fps)
            score, length = type(self).score(trace), f"a video of {trace.num_frames} frames"
        if score.value is None:
            raise UserError(f"{length} is too short for {type(self).__name__}")
        if not math.isfinite(score.value):
            raise UserError(f"{length} has the score {score.value} in {type(self).__name__}: wanted a finite number")
        return score

    def _traced(self, video: Shaped[Tensor, "..."], fps: float | int) -> Trace:
        if self.probe is None:
            raise UserError(f"{type(self).__name__} was made without a probe: wanted a Trace, or from_weights(...)")
        return measure(self.probe, require_video(video).to(self.device), float(fps))


def require_video(video: Shaped[Tensor, "..."]) -> Tensor:
    """The video, if it is one as all probes take it.

    Raises:
        UserError: it is of another type or shape.
    """
    if video.dtype != torch.uint8:
        raise UserError(
            f"a video of {video.dtype}: wanted torch.uint8 from 0 to 255; for floats in 0..1: "
            "(255 * video).round().to(torch.uint8)"
        )
    if video.ndim != 4 or video.shape[1] != 3 or 0 in video.shape:
        raise UserError(
            f"a video of the shape {tuple(video.shape)}: wanted [frames, 3, height, width], one video a call"
        )
    return video


def measure(probe: Probe, video: Shaped[Tensor, "t 3 h w"], fps: float, chunk_frames: int = CHUNK_FRAMES) -> Trace:
    """What a probe measures of a video in memory.

    Raises:
        UserError: `fps` is no rate, or the frames are too small for the probe.
    """
    if not 0 < fps < math.inf:
        raise UserError(f"fps {fps}: wanted frames per second, more than 0")
    count, _, height, width = video.shape
    probe.begin(fps, height, width)
    for first in range(0, count, chunk_frames):
        end = min(first + chunk_frames, count)
        probe.feed(Frames(video[first:end], first, fps, end == count))
    return Trace(fps, count, height, width, {probe.name: probe.finish()})
