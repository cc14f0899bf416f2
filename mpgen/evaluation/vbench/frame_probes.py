"""The probes that measure each frame by itself: VBench's preprocessing, one network each, one row per frame.

Frames go through a network one by one on a CPU, where larger batches are slower, and in batches on a GPU.
"""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.evaluation.frames import Frames, Probe, Rows
from mpgen.evaluation.metric import Precision
from mpgen.evaluation.resize import Resize
from mpgen.evaluation.trace import Series
from mpgen.evaluation.vbench.networks.clip import SIDE_PX, AestheticHead, ClipImage
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.networks.musiq import Musiq
from mpgen.evaluation.vbench.precision import computing
from mpgen.evaluation.vbench.sizes import at_most, centre, shorter_side

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
DINO_SIDE_PX, MUSIQ_SIDE_PX = 224, 512


class FrameProbe(Probe):
    """One row per frame.

    Args:
        network: makes a row of a picture.
        precision: that the network computes in.
    """

    def __init__(self, network: nn.Module, precision: Precision = "fp32") -> None:
        super().__init__()
        self.network, self.precision = network, precision
        self._rows = Rows()

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        self._rows = Rows()
        self._resize = self.resize_from(height_px, width_px)

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        with computing(self.precision, frames.pixels.device):
            for pictures in self.resized(frames):
                self._rows.add(self.rows_of(pictures))

    def finish(self) -> Series:
        rows, self._rows = self._rows, Rows()
        return Series.of_every_frame(rows.numpy())

    @abstractmethod
    def resize_from(self, height_px: int, width_px: int) -> Resize:
        """What makes frames of this size as the network takes them."""

    def resized(self, frames: Frames) -> Iterable[Float[Tensor, "t 3 y x"]]:
        """What the network is given, batch by batch."""
        return map(self._resize, frames.columns)

    def rows_of(self, pictures: Float[Tensor, "t 3 y x"]) -> Float[Tensor, "t *d"]:
        """One row per picture."""
        return self.network(pictures)


class SubjectProbe(FrameProbe):
    """DINO's features of the whole picture, its shorter side resized to 224."""

    name = "subject"
    network: Dino

    def resize_from(self, height_px: int, width_px: int) -> Resize:
        new_size = shorter_side(height_px, width_px, DINO_SIDE_PX)
        return Resize((height_px, width_px), new_size, "bilinear", colours=IMAGENET)


class ImagingProbe(FrameProbe):
    """MUSIQ's score, about 0 to 100, of the picture at its own size, at most 512 long (VBench's mode `longer`)."""

    name = "imaging"
    network: Musiq

    def resize_from(self, height_px: int, width_px: int) -> Resize:
        return Resize((height_px, width_px), at_most(height_px, width_px, MUSIQ_SIDE_PX), "bilinear")


class SquareProbe(FrameProbe):
    """Of pictures as CLIP takes them: the shorter side resized to 224, then the square in the middle.

    Two probes take them; the first that is fed resizes for both.
    """

    def resize_from(self, height_px: int, width_px: int) -> Resize:
        new_size = shorter_side(height_px, width_px, SIDE_PX)
        return Resize((height_px, width_px), new_size, "bicubic", centre(*new_size, SIDE_PX), CLIP)

    def resized(self, frames: Frames) -> Iterable[Float[Tensor, "t 3 y x"]]:
        return frames.shared("CLIP's square", lambda: list(super(SquareProbe, self).resized(frames)))


class BackgroundProbe(SquareProbe):
    """CLIP's features."""

    name = "background"
    network: ClipImage


class AestheticProbe(SquareProbe):
    """LAION's score of CLIP's features, over 10."""

    name = "aesthetic"
    network: ClipImage

    def __init__(self, network: ClipImage, head: AestheticHead, precision: Precision = "fp32") -> None:
        super().__init__(network, precision)
        self.head = head

    def rows_of(self, pictures: Float[Tensor, "t 3 y x"]) -> Float[Tensor, " t"]:
        return self.head(self.network(pictures)) / 10
