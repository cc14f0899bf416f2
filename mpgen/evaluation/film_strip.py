"""A few small pictures from all over a video, for the report."""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mpgen.evaluation.frames import Frames, Probe
from mpgen.evaluation.metric import ProbeSource
from mpgen.evaluation.trace import Series

WIDTH_PX = 192
PICTURES = 5  # at 0, 25, 50, 75 and 100 % of the video
_KEPT = 32


class FilmStrip(Probe):
    """Pictures at even distances of a video whose length nobody knows beforehand.

    Keeps every k-th frame and doubles k when there are too many, so memory is constant; the last frame is always there.
    """

    name = "strip"
    version = 1

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        self._stride, self._count = 1, 0
        self._kept: list[tuple[int, np.ndarray]] = []
        shrink = min(1.0, WIDTH_PX / max(height_px, width_px))
        self._size = (max(1, round(height_px * shrink)), max(1, round(width_px * shrink)))

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        for number, picture in enumerate(frames.pixels, frames.first):
            is_last = frames.last and number == frames.first + len(frames.pixels) - 1
            if number % self._stride == 0 or is_last:
                self._kept.append((number, self._small(picture)))
            if len(self._kept) > _KEPT:
                self._stride *= 2
                self._kept = [kept for kept in self._kept if kept[0] % self._stride == 0 or kept[0] == number]
            self._count = number + 1

    def _small(self, picture: UInt8[Tensor, "3 h w"]) -> UInt8[np.ndarray, "small_h small_w 3"]:
        small: Float[Tensor, "1 3 small_h small_w"] = F.interpolate(picture[None].float(), self._size, mode="area")
        return small[0].round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()

    def finish(self) -> Series:
        numbers = np.array([number for number, _ in self._kept], np.int64)
        wanted = np.linspace(0, self._count - 1, PICTURES)
        chosen = np.unique([np.abs(numbers - place).argmin() for place in wanted])
        return Series(np.stack([self._kept[index][1] for index in chosen]), numbers[chosen], ())


STRIP = ProbeSource(FilmStrip.name, f"version {FilmStrip.version}", partial(FilmStrip))
