"""The two probes that compare frames: RAFT for motion (dynamic degree), AMT to interpolate odd frames (smoothness)."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mpgen.errors import UserError
from mpgen.evaluation.frames import Frames, Probe, Rows, batches
from mpgen.evaluation.metric import Precision
from mpgen.evaluation.trace import Series
from mpgen.evaluation.vbench.networks import amt
from mpgen.evaluation.vbench.networks.amt import AmtS
from mpgen.evaluation.vbench.networks.raft import Raft
from mpgen.evaluation.vbench.precision import computing
from mpgen.optical_flow import raft
from mpgen.optical_flow.correlation import SMALLEST_PX
from mpgen.optical_flow.raft import fastest

BATCH_PAIRS = 8
STRIP_PX = 96  # rows that are compared at a time


def flow_stride(fps: float) -> int:
    """VBench measures the motion between every so many frames: about eight times a second."""
    return max(1, round(fps / 8))


class DynamicProbe(Probe):
    """Motion in pixels of the fastest twentieth of the picture, between frames about an eighth of a second apart.

    Features of a frame are computed once and carried to the next pair. A row belongs to the later frame.

    Args:
        network: RAFT.
        precision: that it computes in.
    """

    name = "dynamic"

    def __init__(self, network: Raft, precision: Precision = "fp32") -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        self._margins = margins(height_px, width_px, raft.STRIDE)
        _check(height_px, width_px, self._margins, "RAFT")
        self._stride = flow_stride(fps)
        self._carried: tuple[Tensor, Tensor] | None = None  # a frame and its features
        self._rows = Rows()

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        offset = -frames.first % self._stride
        wanted = range(offset, len(frames.pixels), self._stride)
        if wanted:
            for pictures in batches(frames.pixels[wanted.start :: self._stride], BATCH_PAIRS):
                self._measure(pad(pictures.float(), self._margins))

    def _measure(self, pictures: Float[Tensor, "t 3 y x"]) -> None:
        with computing(self.precision, pictures.device):
            features = self.network.features(pictures)
            first, carried = (pictures[:0], features[:0]) if self._carried is None else self._carried
            self._carried = (pictures[-1:], features[-1:])
            features = _joined([carried, features])
            if len(features) > 1:
                flow = self.network(_joined([first, pictures[:-1]]), features[:-1], features[1:])
                self._rows.add(fastest(flow.float()))

    def finish(self) -> Series:
        scores, self._rows, self._carried = self._rows.numpy(), Rows(), None
        return Series(scores, self._stride * np.arange(1, len(scores) + 1), (-self._stride,))


class SmoothnessProbe(Probe):
    """How well each odd frame is interpolated from its neighbours: 1 - mean |difference| / 255, one row per odd frame.

    Args:
        network: AMT-S.
        precision: that it computes in.
    """

    name = "smoothness"

    def __init__(self, network: AmtS, precision: Precision = "fp32") -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        self._margins = margins(height_px, width_px, amt.STRIDE)
        _check(height_px, width_px, self._margins, "AMT")
        self._before: Tensor | None = None  # the last even frame that was used, as the network takes it
        self._even: list[Tensor] = []  # frames that wait for others
        self._odd: list[Tensor] = []
        self._rows = Rows()

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        for number, picture in enumerate(frames.pixels.split(1), frames.first):
            (self._odd if number % 2 else self._even).append(picture)
        if self._before is None:
            self._before = self._taken(self._even.pop(0))
        size = 1 if frames.pixels.device.type == "cpu" else BATCH_PAIRS
        while count := min(size, len(self._odd), len(self._even)):
            odd, after = _joined(self._odd[:count]), self._taken(_joined(self._even[:count]))
            self._rows.add(self._interpolated(_joined([self._before, after[:-1]]), odd, after))
            self._before = after[-1:]
            del self._odd[:count], self._even[:count]

    def _taken(self, pictures: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 y x"]:
        """As the network takes them."""
        return pad(pictures.float().div_(255), self._margins)

    def _interpolated(
        self, before: Float[Tensor, "n 3 y x"], odd: UInt8[Tensor, "n 3 h w"], after: Float[Tensor, "n 3 y x"]
    ) -> Float[Tensor, " n"]:
        with computing(self.precision, before.device):
            guessed = self.network(before, after).float()
        left, right, top, bottom = self._margins
        guessed = guessed[:, :, top : guessed.shape[2] - bottom, left : guessed.shape[3] - right]
        return 1 - _difference(guessed, odd) / 255

    def finish(self) -> Series:
        scores, self._rows = self._rows.numpy(), Rows()
        self._before, self._even, self._odd = None, [], []
        return Series(scores, 2 * np.arange(len(scores)) + 1, (-1, 1))


def _difference(guessed: Float[Tensor, "n 3 h w"], true: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """The mean |difference|, in grey levels, to guesses in [0, 1]; strip by strip, which the caches hold."""
    total = torch.zeros(len(true), device=true.device)
    for guess, truth in zip(guessed.split(STRIP_PX, 2), true.split(STRIP_PX, 2), strict=True):
        # VBench cuts off what is behind the point, where rounding would be right.
        cut = (guess * 255).clamp_(0, 255).floor_()
        total += cut.sub_(truth).abs_().sum((1, 2, 3))
    return total / true[0].numel()


def margins(height_px: int, width_px: int, stride: int) -> tuple[int, int, int, int]:
    """Pixels to add on the left, right, top and bottom, so that both sides are multiples of the stride."""
    wide, high = -width_px % stride, -height_px % stride
    return wide // 2, wide - wide // 2, high // 2, high - high // 2


def _check(height_px: int, width_px: int, by: tuple[int, int, int, int], network: str) -> None:
    left, right, top, bottom = by
    if min(height_px + top + bottom, width_px + left + right) < SMALLEST_PX:
        raise UserError(
            f"frames of {width_px}x{height_px} are too small for {network}: wanted at least {SMALLEST_PX} pixels on "
            "either side"
        )


def pad(pictures: Float[Tensor, "t 3 h w"], by: tuple[int, int, int, int]) -> Float[Tensor, "t 3 y x"]:
    """With the border's pixels repeated."""
    return F.pad(pictures, by, mode="replicate") if any(by) else pictures


def _joined(parts: list[Tensor]) -> Tensor:
    """One batch of several; what is one already is not copied."""
    filled = [part for part in parts if len(part)]
    return filled[0] if len(filled) == 1 else torch.cat(filled)
