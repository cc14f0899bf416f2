"""Scores without weights, so that a bare machine can say something: how bright, sharp, coloured, alike, moving.

They are no stand-ins for VBench's dimensions and never appear under their names. All are cheap: a few passes over a
frame, and no number depends on where a chunk ends.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mpgen.evaluation.frames import Frames, Probe, Rows

STRUCTURE_SIDE = 16
STRIP_WIDTH_PX = 192
STRIP_PICTURES = 5  # at 0, 25, 50, 75 and 100 % of the video
_STRIP_KEPT = 32
_LUMA = (0.299, 0.587, 0.114)
_ROWS = ("luminance", "contrast", "saturation", "sharpness")


class Proxies(Probe):
    """One row a frame, all in [0, 1] or thereabouts.

    `luminance` is the mean luma (BT.601), `contrast` its standard deviation; `saturation` the mean of largest minus
    smallest channel; `sharpness` the standard deviation of the luma's Laplacian; `colour` the mean RGB; `structure` a
    vector for correlations: the luma as 16 x 16 cells less its mean, with one part of a grey level so that flat
    pictures are alike; `motion` the mean absolute change of luma since the frame before (the first frame has none).
    """

    name = "proxies"
    version = 1

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        self._before: Tensor | None = None
        self._scalars, self._colours, self._motions = Rows(len(_ROWS)), Rows(3), Rows()
        self._structures = Rows(STRUCTURE_SIDE**2 + 1)

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        for picture in frames.pixels:  # one by one: sums over a batch would round differently
            self._look(picture)

    def _look(self, picture: UInt8[Tensor, "3 h w"]) -> None:
        red, green, blue = picture.contiguous().float() / 255
        luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
        largest, smallest = red.maximum(green).maximum(blue), red.minimum(green).minimum(blue)
        chroma = largest.sub_(smallest).mean()
        scalars = [luma.mean(), _deviation(luma), chroma, _deviation(_laplacian(luma))]
        self._scalars.add(torch.stack(scalars)[None])
        self._colours.add(torch.stack([red.mean(), green.mean(), blue.mean()])[None])
        cells = F.adaptive_avg_pool2d(luma[None, None], STRUCTURE_SIDE).flatten()
        level = torch.full_like(cells[:1], 1 / 255)
        self._structures.add(F.normalize(torch.cat([cells - cells.mean(), level]), dim=0)[None])
        if self._before is not None:
            self._motions.add((luma - self._before).abs().mean()[None])
        self._before = luma

    def finish(self) -> dict[str, np.ndarray]:
        scalars = self._scalars.numpy()
        arrays = {f"proxies/{name}": scalars[:, column] for column, name in enumerate(_ROWS)}
        motion = self._motions.numpy()
        self._before = None
        return arrays | {
            "proxies/colour": self._colours.numpy(),
            "proxies/structure": self._structures.numpy(),
            "proxies/motion": motion,
            "proxies/motion/frame": np.arange(1, len(motion) + 1),
        }


class Strip(Probe):
    """A few small pictures from all over a video whose length nobody knows beforehand.

    Keeps every k-th frame and doubles k when there are too many, so memory is constant; the last frame is always there.
    """

    name = "strip"
    version = 1

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        self._stride, self._seen = 1, 0
        self._kept: list[tuple[int, np.ndarray]] = []
        shrink = min(1.0, STRIP_WIDTH_PX / max(height_px, width_px))
        self._size = (max(1, round(height_px * shrink)), max(1, round(width_px * shrink)))

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        for number, picture in enumerate(frames.pixels, frames.first):
            is_last = frames.last and number == frames.first + len(frames.pixels) - 1
            if number % self._stride == 0 or is_last:
                self._kept.append((number, self._small(picture)))
            if len(self._kept) > _STRIP_KEPT:
                self._stride *= 2
                self._kept = [kept for kept in self._kept if kept[0] % self._stride == 0 or kept[0] == number]
            self._seen = number + 1

    def _small(self, picture: UInt8[Tensor, "3 h w"]) -> UInt8[np.ndarray, "small_h small_w 3"]:
        small: Float[Tensor, "1 3 small_h small_w"] = F.interpolate(picture[None].float(), self._size, mode="area")
        return small[0].round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()

    def finish(self) -> dict[str, np.ndarray]:
        numbers = np.array([number for number, _ in self._kept], np.int64)
        wanted = np.linspace(0, self._seen - 1, STRIP_PICTURES)
        chosen = np.unique([np.abs(numbers - place).argmin() for place in wanted])
        pictures = np.stack([self._kept[index][1] for index in chosen])
        return {"strip/pictures": pictures, "strip/frame": numbers[chosen]}


def _laplacian(luma: Float[Tensor, "h w"]) -> Float[Tensor, "inner_h inner_w"]:
    """Four neighbours less four times the middle, without the border; a picture too thin for it counts as flat."""
    if min(luma.shape) < 3:
        return torch.zeros_like(luma)
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return around - 4 * luma[1:-1, 1:-1]


def _deviation(values: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """The standard deviation, in two passes: as exact as `std`, and faster."""
    return (values - values.mean()).square_().mean().sqrt()
