"""The networks' eyes: VBench's preprocessing, one network each, one row of numbers a frame. Memory is one chunk's.

Frames go through a network one by one on a CPU, where larger batches are slower, and in batches on a GPU.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.evaluation.frames import Frames, Probe, Rows
from mpgen.evaluation.motion import DynamicProbe, SmoothnessProbe
from mpgen.evaluation.nets.amt import AmtS
from mpgen.evaluation.nets.clip import SIDE_PX, AestheticHead, ClipImage
from mpgen.evaluation.nets.dino import Dino
from mpgen.evaluation.nets.musiq import Musiq
from mpgen.evaluation.nets.raft import Raft
from mpgen.evaluation.precision import Precision, computing, prepared
from mpgen.evaluation.resize import Resize, at_most, centre, shorter_side
from mpgen.evaluation.weights import randomise

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
DINO_SIDE_PX, MUSIQ_SIDE_PX = 224, 512


class FrameProbe(Probe):
    """Looks at each frame by itself.

    Args:
        network: makes a row of a picture.
        array: the name of the rows.
        precision: that the network computes in.
    """

    def __init__(self, network: nn.Module, array: str, precision: Precision) -> None:
        super().__init__()
        self.network, self.array, self.precision = network, array, precision
        self._rows = Rows()

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        self._rows = Rows()
        self.prepare(height_px, width_px)

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        with computing(self.precision, frames.pixels.device):
            for pictures in self.see(frames):
                self._rows.add(self.judge(pictures))

    def finish(self) -> dict[str, np.ndarray]:
        rows, self._rows = self._rows, Rows()
        return {self.array: rows.numpy()}

    @abstractmethod
    def prepare(self, height_px: int, width_px: int) -> None:
        """For a video of this size."""

    @abstractmethod
    def see(self, frames: Frames) -> Iterable[Float[Tensor, "t 3 y x"]]:
        """What the network is given, batch by batch."""

    def judge(self, pictures: Float[Tensor, "t 3 y x"]) -> Float[Tensor, "t *d"]:
        """One row a picture."""
        return self.network(pictures)


class SubjectProbe(FrameProbe):
    """DINO's features of the whole picture, its shorter side resized to 224."""

    name = "subject"

    def __init__(self, network: Dino, precision: Precision = "fp32") -> None:
        super().__init__(network, "subject/features", precision)

    def prepare(self, height_px: int, width_px: int) -> None:
        new_size = shorter_side(height_px, width_px, DINO_SIDE_PX)
        self._resize = Resize((height_px, width_px), new_size, "bilinear", colours=IMAGENET)

    def see(self, frames: Frames) -> Iterable[Float[Tensor, "t 3 y x"]]:
        return map(self._resize, frames.columns)


class SquareView:
    """CLIP's view of a picture: its shorter side resized to 224, then the square in the middle.

    Two networks see it: hand them the same view, and it is made once. It keeps the last chunk's.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._frames: Frames | None = None
        self._pictures: list[Tensor] = []

    def prepare(self, height_px: int, width_px: int) -> None:
        new_size = shorter_side(height_px, width_px, SIDE_PX)
        self._resize = Resize((height_px, width_px), new_size, "bicubic", centre(*new_size, SIDE_PX), CLIP)
        self.forget()

    def __call__(self, frames: Frames) -> list[Tensor]:
        if frames is not self._frames:
            self.forget()
            self._frames, self._pictures = frames, list(map(self._resize, frames.columns))
        return self._pictures


class SquareProbe(FrameProbe):
    """A probe that has CLIP's view."""

    def __init__(self, network: nn.Module, array: str, precision: Precision, view: SquareView) -> None:
        super().__init__(network, array, precision)
        self._view = view

    def prepare(self, height_px: int, width_px: int) -> None:
        self._view.prepare(height_px, width_px)

    def see(self, frames: Frames) -> Iterable[Float[Tensor, "t 3 y x"]]:
        return self._view(frames)

    def finish(self) -> dict[str, np.ndarray]:
        self._view.forget()
        return super().finish()


class BackgroundProbe(SquareProbe):
    """CLIP's features."""

    name = "background"

    def __init__(self, network: ClipImage, precision: Precision, view: SquareView) -> None:
        super().__init__(network, "background/features", precision, view)


class AestheticProbe(SquareProbe):
    """LAION's score of CLIP's features, over 10."""

    name = "aesthetic"

    def __init__(self, network: ClipImage, head: AestheticHead, precision: Precision, view: SquareView) -> None:
        super().__init__(network, "aesthetic/score", precision, view)
        self.head = head

    def judge(self, pictures: Float[Tensor, "t 3 y x"]) -> Float[Tensor, " t"]:
        return self.head(self.network(pictures)) / 10


class ImagingProbe(FrameProbe):
    """MUSIQ's score, about 0 to 100, of the picture at its own size, at most 512 long (VBench's mode `longer`)."""

    name = "imaging"

    def __init__(self, network: Musiq, precision: Precision = "fp32") -> None:
        super().__init__(network, "imaging/score", precision)

    def prepare(self, height_px: int, width_px: int) -> None:
        self._resize = Resize((height_px, width_px), at_most(height_px, width_px, MUSIQ_SIDE_PX), "bilinear")

    def see(self, frames: Frames) -> Iterable[Float[Tensor, "t 3 y x"]]:
        return map(self._resize, frames.columns)


@dataclass(frozen=True)
class Recipe:
    """How a probe is made of weight files.

    Args:
        version: raised when the same weights begin to give other scores.
        networks: how each network is made, by the name of its weights in `weights.SPECS`.
        probe: takes these networks in their order, the precision and the view.
    """

    version: int
    networks: Mapping[str, Callable[[], nn.Module]]
    probe: Callable[..., Probe]

    def build(
        self,
        files: Mapping[str, Path | None],
        precision: Precision = "fp32",
        seed: int = 0,
        view: SquareView | None = None,
    ) -> Probe:
        """The probe, on the CPU.

        Args:
            files: by the names of `networks`; None for random weights, whose scores mean nothing.
            precision: that it computes in.
            seed: of random weights.
            view: shared by probes that see the same frames; its own if None.

        Raises:
            UserError: a file does not fit.
        """
        networks = []
        for name, make in self.networks.items():
            network, file = make(), files[name]
            if file is None:
                randomise(network, seed)
            else:
                network.load(file)
            networks.append(prepared(network, precision))
        return self.probe(*networks, precision=precision, view=SquareView() if view is None else view)


def _without_view(probe: Callable[..., Probe]) -> Callable[..., Probe]:
    return lambda *networks, precision, view: probe(*networks, precision=precision)


PROBES: Mapping[str, Recipe] = MappingProxyType(
    {
        "imaging": Recipe(1, {"musiq": Musiq}, _without_view(ImagingProbe)),
        "aesthetic": Recipe(1, {"clip_l14": ClipImage.large_14, "aesthetic": AestheticHead}, AestheticProbe),
        "dynamic": Recipe(1, {"raft": Raft}, _without_view(DynamicProbe)),
        "smoothness": Recipe(1, {"amt": AmtS}, _without_view(SmoothnessProbe)),
        "background": Recipe(1, {"clip_b32": ClipImage.base_32}, BackgroundProbe),
        "subject": Recipe(1, {"dino": Dino}, _without_view(SubjectProbe)),
    }
)
