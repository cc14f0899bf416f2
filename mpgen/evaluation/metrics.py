"""VBench's six dimensions as torchmetrics, usable alone in anybody's loop.

    metric = SubjectConsistency.from_weights(Path("weights"))
    metric.update(video, fps=24.0)  # uint8, frames x 3 x height x width; or a Trace
    metric.compute()

A metric is a probe (one network's eyes), a function of what it saw, and a mean over videos.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mpgen.errors import UserError
from mpgen.evaluation import reduce
from mpgen.evaluation.frames import Frames, Probe
from mpgen.evaluation.precision import Precision
from mpgen.evaluation.probes import PROBES
from mpgen.evaluation.reduce import Score
from mpgen.evaluation.trace import Trace
from mpgen.evaluation.weights import SPECS, find

Averaging = Literal["video", "frame"]
CHUNK_FRAMES = 8


class VideoMetric(Metric):
    """A mean over videos of what one probe sees.

    Args:
        probe: looks at the frames.
        average: "video", or "frame" to weigh videos by their frames, as VBench does for the two consistencies.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    probe_name: ClassVar[str]
    score: ClassVar[Callable[[Trace], Score]]
    values: list[Tensor]
    counts: list[Tensor]

    def __init__(self, probe: Probe, average: Averaging = "video") -> None:
        super().__init__()
        assert probe.name == self.probe_name
        self.probe, self.average = probe, average
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("counts", default=[], dist_reduce_fx="cat")

    @classmethod
    def from_weights(
        cls, folder: Path, average: Averaging = "video", precision: Precision = "fp32", device: str = "cpu"
    ) -> "VideoMetric":
        """With the published weights that lie in a folder.

        Raises:
            UserError: a file is missing or does not fit.
        """
        files = {}
        for name in PROBES[cls.probe_name].networks:
            found = find(Path(folder), SPECS[name])
            if found is None:
                wanted = " or ".join(file.name for file in SPECS[name].files)
                raise UserError(f"{folder} lacks {wanted}, from {SPECS[name].owner}: wanted it there")
            files[name] = found.path
        place = torch.device(device)
        return cls(PROBES[cls.probe_name].build(files, precision), average).to(place)

    def update(self, video: UInt8[Tensor, "t 3 h w"] | Trace, fps: float | int = 24.0) -> None:
        """Adds one video, or what was seen of it.

        Raises:
            UserError: it is too short for this score.
        """
        trace = video if isinstance(video, Trace) else look(self.probe, video.to(self.device), float(fps))
        score = type(self).score(trace)
        if score.value is None:
            raise UserError(f"a video of {trace.num_frames} frames is too short for {type(self).__name__}")
        self.values.append(torch.tensor([score.value], dtype=torch.float64, device=self.device))
        self.counts.append(torch.tensor([len(score.series)], device=self.device))

    def compute(self) -> Float[Tensor, ""]:
        """NaN before the first video."""
        if not len(self.values):
            return torch.tensor(float("nan"), device=self.device)
        values, counts = dim_zero_cat(self.values), dim_zero_cat(self.counts).double()
        weights = counts if self.average == "frame" else torch.ones_like(counts)
        return (values * weights).sum() / weights.sum()


class SubjectConsistency(VideoMetric):
    """Does the subject stay the same? In [0, 1], from DINO."""

    probe_name, score = "subject", reduce.subject_consistency


class BackgroundConsistency(VideoMetric):
    """Does the scene stay the same? In [0, 1], from CLIP."""

    probe_name, score = "background", reduce.background_consistency


class AestheticQuality(VideoMetric):
    """Is it beautiful? About [0, 1], from CLIP and LAION's head."""

    probe_name, score = "aesthetic", reduce.aesthetic_quality


class ImagingQuality(VideoMetric):
    """Is it sharp and clean? About [0, 1], from MUSIQ."""

    probe_name, score = "imaging", reduce.imaging_quality


class DynamicDegree(VideoMetric):
    """The share of videos that move, from RAFT."""

    probe_name, score = "dynamic", reduce.dynamic_degree


class MotionSmoothness(VideoMetric):
    """Is motion steady? In [0, 1], from AMT's guess of every second frame."""

    probe_name, score = "smoothness", reduce.motion_smoothness


def look(probe: Probe, video: UInt8[Tensor, "t 3 h w"], fps: float, chunk_frames: int = CHUNK_FRAMES) -> Trace:
    """What a probe sees of a video in memory."""
    count, _, height, width = video.shape
    probe.begin(fps, height, width)
    for first in range(0, count, chunk_frames):
        end = min(first + chunk_frames, count)
        probe.feed(Frames(video[first:end], first, fps, end == count))
    return Trace(fps, count, height, width, probe.finish())
