"""VBench's six dimensions as torchmetrics: the networks of each, its probe, its formula (paper §5.2)."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from mpgen.errors import UserError
from mpgen.evaluation.frames import Probe
from mpgen.evaluation.metric import RANDOM, Averaging, Precision, ProbeSource, VideoMetric, Weights
from mpgen.evaluation.scores import Score, average, consistency
from mpgen.evaluation.trace import Trace
from mpgen.evaluation.vbench.formulas import dynamic_degree
from mpgen.evaluation.vbench.frame_probes import AestheticProbe, BackgroundProbe, ImagingProbe, SubjectProbe
from mpgen.evaluation.vbench.motion_probes import DynamicProbe, SmoothnessProbe
from mpgen.evaluation.vbench.precision import prepared
from mpgen.evaluation.vbench.randomise import randomise
from mpgen.evaluation.vbench.weights import (
    AESTHETIC,
    AMT,
    CLIP_B32,
    CLIP_L14,
    DINO,
    MUSIQ,
    RAFT,
    Published,
    find_all,
    require_folder,
)


class VBenchMetric(VideoMetric):
    """One of VBench's dimensions."""

    networks: ClassVar[tuple[Published, ...]]

    @classmethod
    @abstractmethod
    def make_probe(cls, networks: Sequence[nn.Module], precision: Precision) -> Probe:
        """The probe of these networks, in the order of `networks`."""

    @classmethod
    def from_weights(
        cls, folder: Path | str, average: Averaging = "video", precision: Precision = "fp32", device: str = "cpu"
    ) -> "VBenchMetric":
        """With the published weights that lie in a folder; "random" for weights whose scores mean nothing.

        Raises:
            UserError: a file is missing or does not fit.
        """
        weights: Weights = RANDOM if folder == RANDOM else Path(folder)
        return cls(cls.probe_source(weights, precision).make(), average).to(torch.device(device))

    @classmethod
    def probe_source(cls, weights: Weights, precision: Precision) -> ProbeSource:
        if weights is None:
            names = ", ".join(published.files[0].name for published in cls.networks)
            raise UserError(f"no weights: wanted {names} (--weights DIR; mpgen evaluate --list_weights true)")
        if weights == RANDOM:
            files = {published.name: None for published in cls.networks}
            checksums = dict.fromkeys(files, RANDOM)
        else:
            require_folder(Path(weights))
            found = find_all(Path(weights), cls.networks)
            files = {name: file.path for name, file in found.items()}
            checksums = {name: file.sha256 for name, file in found.items()}
        return ProbeSource(
            probe=cls.name,
            identity=f"version {cls.version} {precision} {sorted(checksums.items())}",
            make=partial(cls.build_probe, files, precision),
            weights={one.name: _described(one, checksums[one.name]) for one in cls.networks},
        )

    @classmethod
    def build_probe(cls, files: Mapping[str, Path | None], precision: Precision = "fp32", seed: int = 0) -> Probe:
        """The probe, on the CPU.

        Args:
            files: by the names of `networks`; None for random weights.
            precision: that it computes in.
            seed: of random weights.

        Raises:
            UserError: a file does not fit.
        """
        networks = []
        for published in cls.networks:
            network, file = published.network(), files[published.name]
            if file is None:
                randomise(network, seed)
            else:
                network.load(file)
            networks.append(prepared(network, precision))
        return cls.make_probe(networks, precision)


class ImagingQuality(VBenchMetric):
    """Is it sharp and clean? About [0, 1], from MUSIQ, whose own scale is 0 to 100."""

    name, title = "imaging", "Imaging Quality"
    networks = (MUSIQ,)

    @classmethod
    def make_probe(cls, networks: Sequence[nn.Module], precision: Precision) -> Probe:
        return ImagingProbe(*networks, precision=precision)

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return average(trace[cls.name], 100.0)


class AestheticQuality(VBenchMetric):
    """Is it beautiful? About [0, 1], from CLIP and LAION's head."""

    name, title = "aesthetic", "Aesthetic Quality"
    networks = (CLIP_L14, AESTHETIC)

    @classmethod
    def make_probe(cls, networks: Sequence[nn.Module], precision: Precision) -> Probe:
        return AestheticProbe(*networks, precision=precision)

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return average(trace[cls.name])


class DynamicDegree(VBenchMetric):
    """The share of videos that move, from RAFT."""

    name, title = "dynamic", "Dynamic Degree"
    networks = (RAFT,)
    drift_frames = 0
    headline = False
    curve_title = "Motion, % of the threshold of Dynamic Degree"

    @classmethod
    def make_probe(cls, networks: Sequence[nn.Module], precision: Precision) -> Probe:
        return DynamicProbe(*networks, precision=precision)

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return dynamic_degree(trace[cls.name], trace.height_px, trace.width_px)


class MotionSmoothness(VBenchMetric):
    """Is motion steady? In [0, 1], from AMT's interpolation of every second frame."""

    name, title = "smoothness", "Motion Smoothness"
    networks = (AMT,)
    headline = False

    @classmethod
    def make_probe(cls, networks: Sequence[nn.Module], precision: Precision) -> Probe:
        return SmoothnessProbe(*networks, precision=precision)

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return average(trace[cls.name])


class BackgroundConsistency(VBenchMetric):
    """Does the scene stay the same? In [0, 1], from CLIP."""

    name, title = "background", "Background Consistency"
    networks = (CLIP_B32,)
    drift_frames = 2
    weighs_by_frames = True

    @classmethod
    def make_probe(cls, networks: Sequence[nn.Module], precision: Precision) -> Probe:
        return BackgroundProbe(*networks, precision=precision)

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return consistency(trace[cls.name])


class SubjectConsistency(VBenchMetric):
    """Does the subject stay the same? In [0, 1], from DINO."""

    name, title = "subject", "Subject Consistency"
    networks = (DINO,)
    drift_frames = 2
    weighs_by_frames = True

    @classmethod
    def make_probe(cls, networks: Sequence[nn.Module], precision: Precision) -> Probe:
        return SubjectProbe(*networks, precision=precision)

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return consistency(trace[cls.name])


VBENCH: tuple[type[VBenchMetric], ...] = (
    ImagingQuality,
    AestheticQuality,
    DynamicDegree,
    MotionSmoothness,
    BackgroundConsistency,
    SubjectConsistency,
)


def _described(published: Published, sha256: str) -> str:
    if sha256 == RANDOM:
        return "random: these scores mean nothing"
    return f"sha256 {sha256}{'; research only' if published.research_only else ''}"
