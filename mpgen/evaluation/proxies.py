"""Scores without weights, so that a bare machine can say something: how bright, sharp, coloured, alike, moving.

They are no stand-ins for VBench's dimensions and never appear under their names. A new one is one class with a name, a
title and `measure`, which is handed the frames that it may compare and no others; `frames_before` says how many.
"""

from abc import abstractmethod
from collections import deque
from functools import cached_property, partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mpgen.evaluation.frames import Frames, Probe, Rows
from mpgen.evaluation.metric import Averaging, Precision, ProbeSource, VideoMetric, Weights
from mpgen.evaluation.scores import Score, average, consistency, distance_from_first
from mpgen.evaluation.trace import Series, Trace

STRUCTURE_SIDE = 16
_LUMA = (0.299, 0.587, 0.114)  # BT.601


class Picture:
    """One frame; what several proxies need of it is computed once."""

    def __init__(self, pixels: UInt8[Tensor, "3 h w"]) -> None:
        self.pixels = pixels

    @property
    def rgb(self) -> Float[Tensor, "3 h w"]:
        """In [0, 1]; not kept, as three planes of floats for every frame of a chunk would be much memory."""
        return self.pixels.contiguous().float() / 255

    @cached_property
    def luma(self) -> Float[Tensor, "h w"]:
        """In [0, 1]."""
        red, green, blue = self.rgb
        return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


class Proxy(VideoMetric):
    """A score that needs no weights: the mean over frames of what `measure` gives, unless `score` says otherwise."""

    frames_before: ClassVar[int] = 0  # that `measure` also sees, and drift therefore knows of

    def __init__(self, probe: Probe | None = None, average: Averaging = "video") -> None:
        super().__init__(ProxyProbe(type(self)) if probe is None else probe, average)

    @staticmethod
    @abstractmethod
    def measure(*pictures: Picture) -> Float[Tensor, "*d"]:
        """A number or a vector for the last of these pictures, which follow each other."""

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return average(trace[cls.name])

    @classmethod
    def probe_source(cls, weights: Weights, precision: Precision) -> ProbeSource:
        return ProbeSource(cls.name, f"version {cls.version}", partial(ProxyProbe, cls))


class ProxyProbe(Probe):
    """Measures a proxy on each frame with the frames before it; frames that have too few before them have no row."""

    def __init__(self, proxy: type[Proxy]) -> None:
        super().__init__()
        self.proxy, self.name = proxy, proxy.name
        self._window: deque[Picture] = deque(maxlen=proxy.frames_before + 1)
        self._rows = Rows()

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        self._window.clear()
        self._rows = Rows()

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        # one by one: sums over a batch would round differently
        for picture in frames.shared("pictures", lambda: [Picture(pixels) for pixels in frames.pixels]):
            self._window.append(picture)
            if len(self._window) == self._window.maxlen:
                self._rows.add(self.proxy.measure(*self._window)[None])

    def finish(self) -> Series:
        rows, self._rows = self._rows.numpy(), Rows()
        self._window.clear()
        before = self.proxy.frames_before
        return Series(rows, np.arange(before, before + len(rows)), tuple(range(-before, 0)))


class Luminance(Proxy):
    """The mean luma."""

    name, title, higher_is_better = "luminance", "Luminance", None

    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, ""]:
        return pictures[-1].luma.mean()


class Contrast(Proxy):
    """The standard deviation of luma."""

    name, title, higher_is_better = "contrast", "Contrast", None

    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, ""]:
        return _deviation(pictures[-1].luma)


class Saturation(Proxy):
    """The mean of largest minus smallest channel."""

    name, title, higher_is_better = "saturation", "Saturation", None

    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, ""]:
        red, green, blue = pictures[-1].rgb
        largest, smallest = red.maximum(green).maximum(blue), red.minimum(green).minimum(blue)
        return largest.sub_(smallest).mean()


class Sharpness(Proxy):
    """The standard deviation of luma's Laplacian."""

    name, title, higher_is_better = "sharpness", "Sharpness", None

    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, ""]:
        return _deviation(_laplacian(pictures[-1].luma))


class FrameDifference(Proxy):
    """The mean absolute change of luma since the frame before."""

    name, title, higher_is_better = "motion", "Frame difference", None
    frames_before = 1
    drift_frames = 2

    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, ""]:
        before, now = pictures
        return (now.luma - before.luma).abs().mean()


class StructuralConsistency(Proxy):
    """In [0, 1]: VBench's consistency formula on tiny grey pictures in place of a network's features."""

    name, title = "structure", "Structural consistency"
    drift_frames = 2

    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, " cells"]:
        """The luma as 16 x 16 cells less its mean, with one part of a grey level so that flat pictures are alike."""
        cells = F.adaptive_avg_pool2d(pictures[-1].luma[None, None], STRUCTURE_SIDE).flatten()
        level = torch.full_like(cells[:1], 1 / 255)
        return F.normalize(torch.cat([cells - cells.mean(), level]), dim=0)

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return consistency(trace[cls.name])


class ColourShift(Proxy):
    """How far the mean colour is from that of the first frame, as a share of the full range."""

    name, title, higher_is_better = "colour", "Colour shift", False
    drift_frames = 2
    drift_from_first_frame = True

    @staticmethod
    def measure(*pictures: Picture) -> Float[Tensor, " rgb"]:
        red, green, blue = pictures[-1].rgb
        return torch.stack([red.mean(), green.mean(), blue.mean()])

    @classmethod
    def score(cls, trace: Trace) -> Score:
        return distance_from_first(trace[cls.name])


PROXIES: tuple[type[Proxy], ...] = (
    Luminance,
    Contrast,
    Saturation,
    Sharpness,
    FrameDifference,
    StructuralConsistency,
    ColourShift,
)


def _laplacian(luma: Float[Tensor, "h w"]) -> Float[Tensor, "inner_h inner_w"]:
    """Four neighbours less four times the middle, without the border; a picture too thin for it counts as flat."""
    if min(luma.shape) < 3:
        return torch.zeros_like(luma)
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return around - 4 * luma[1:-1, 1:-1]


def _deviation(values: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """The standard deviation, in two passes: as exact as `std`, and faster."""
    return (values - values.mean()).square_().mean().sqrt()
