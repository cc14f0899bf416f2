"""Scores of the sample videos while a model trains, in TensorBoard beside its loss.

It reads the files that `SampleVideos` writes (left the truth, right ours), and knows nothing of the model; so it is
here and not among the training callbacks. In a config it comes after `SampleVideos`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from mpgen.errors import UserError
from mpgen.evaluation.drift import DriftSettings, drift
from mpgen.evaluation.frames import Frames
from mpgen.evaluation.proxies import PROXIES, ProxyProbe
from mpgen.evaluation.sidecar import Generated
from mpgen.evaluation.stream import FrameStream
from mpgen.evaluation.trace import Trace
from mpgen.sections import DRIFT_SHARE

_SEAM_PX = 2  # white, between the truth and ours
_GIVEN = Generated(given=1)  # the first frame


class SampleScores(pl.Callback):
    """Logs the proxies of the sample videos, ours and the truth's, and their drift; no weights, a few ms a frame.

    Args:
        drift_fraction: of the generated frames, at each end.
    """

    def __init__(self, drift_fraction: float = DRIFT_SHARE):
        self.settings = DriftSettings(drift_fraction)

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = Path(trainer.default_root_dir) / "samples" / f"step{trainer.global_step:08d}"
        if trainer.sanity_checking or not folder.is_dir():
            return
        scores = score_samples(folder, self.settings)
        for logger in trainer.loggers:
            logger.log_metrics(scores, trainer.global_step)


def score_samples(folder: Path, settings: DriftSettings) -> dict[str, float]:
    """Means over the sample videos of a folder: `scores/...` and `drift/...`, end minus start, the truth's beside them.

    A video that cannot be read is a warning: a week's run must not end because of a picture.
    """
    values: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*.mp4")):
        try:
            truth, ours = split_traces(path)
        except (UserError, OSError) as error:
            rank_zero_warn(f"sample video {path} could not be scored: {error}")
            continue
        for who, trace in (("", ours), ("_truth", truth)):
            for name, value in _numbers(trace, settings):
                values.setdefault(name + who, []).append(value)
    return {name: float(np.mean(found)) for name, found in values.items()}


def _numbers(trace: Trace, settings: DriftSettings) -> Iterator[tuple[str, float]]:
    for proxy in PROXIES:
        score = proxy.score(trace)
        if score.value is not None:
            yield f"scores/{proxy.name}", score.value
        found = drift(trace, proxy, _GIVEN, settings)
        if found is not None:
            yield f"drift/{proxy.name}", found.delta


def split_traces(path: Path) -> tuple[Trace, Trace]:
    """The proxies of the left and the right half of a sample video: the truth, and ours.

    Raises:
        VideoError: it cannot be read.
    """
    stream = FrameStream(path)
    info, width = stream.info, (stream.info.width_px - _SEAM_PX) // 2
    halves = [[ProxyProbe(proxy) for proxy in PROXIES] for _ in range(2)]
    for probe in (probe for probes in halves for probe in probes):
        probe.begin(info.fps, info.height_px, width)
    for frames in stream:
        for probes, half in zip(halves, _halves(frames, width), strict=True):
            for probe in probes:
                probe.feed(half)
    truth, ours = (
        Trace(info.fps, stream.num_frames, info.height_px, width, {probe.name: probe.finish() for probe in probes})
        for probes in halves
    )
    return truth, ours


def _halves(frames: Frames, width: int) -> tuple[Frames, Frames]:
    left = replace(frames, pixels=frames.pixels[..., :width])
    return left, replace(frames, pixels=frames.pixels[..., width + _SEAM_PX : 2 * width + _SEAM_PX])
