"""The two probes that compare frames: RAFT for motion (dynamic degree), AMT for guesses of odd frames (smoothness)."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mpgen.errors import UserError
from mpgen.evaluation.frames import Frames, Probe
from mpgen.evaluation.nets import amt, raft
from mpgen.evaluation.nets.amt import AmtS
from mpgen.evaluation.nets.correlation import SMALLEST_PX
from mpgen.evaluation.nets.raft import Raft
from mpgen.evaluation.precision import Precision, batches, computing
from mpgen.evaluation.trace import flow_stride

FASTEST = 0.05  # of a picture, whose mean motion is the score
BATCH_PAIRS = 8


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
        self._rows: list[Tensor] = []

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        offset = -frames.first % self._stride
        for pixels in batches(frames.pixels[offset :: self._stride], BATCH_PAIRS):
            self._look(pixels)

    def _look(self, pixels: UInt8[Tensor, "t 3 h w"]) -> None:
        pictures = pad(pixels, self._margins) * 2 - 1
        with computing(self.precision, pictures.device):
            features = self.network.features(pictures)
            if self._carried is not None:
                pictures = torch.cat([self._carried[0], pictures])
                features = torch.cat([self._carried[1], features])
            self._carried = (pictures[-1:], features[-1:])
            if len(pictures) > 1:
                flow = self.network(pictures[:-1], features[:-1], features[1:])
                self._rows.append(fastest(flow.float()))

    def finish(self) -> dict[str, np.ndarray]:
        rows, self._rows, self._carried = self._rows, [], None
        scores = torch.cat(rows).cpu().numpy() if rows else np.zeros(0, np.float32)
        return {"dynamic/score": scores, "dynamic/frame": self._stride * np.arange(1, len(scores) + 1)}


class SmoothnessProbe(Probe):
    """How well each odd frame is guessed from its neighbours: 1 - mean |difference| / 255, one row an odd frame.

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
        self._waiting: Tensor | None = None  # an even frame, and the odd one after it if it has come
        self._rows: list[Tensor] = []

    @torch.inference_mode()
    def feed(self, frames: Frames) -> None:
        pixels = frames.pixels
        if self._waiting is not None:
            pixels = torch.cat([self._waiting, pixels])
        guesses = (len(pixels) - 1) // 2
        self._waiting = pixels[2 * guesses :].clone()  # not the whole chunk
        triples = torch.stack(
            [pixels[: 2 * guesses : 2], pixels[1 : 2 * guesses : 2], pixels[2 : 2 * guesses + 1 : 2]], 1
        )
        self._rows += [self._guess(*part.unbind(1)) for part in batches(triples, BATCH_PAIRS) if len(part)]

    def _guess(
        self, before: UInt8[Tensor, "n 3 h w"], odd: UInt8[Tensor, "n 3 h w"], after: UInt8[Tensor, "n 3 h w"]
    ) -> Float[Tensor, " n"]:
        before, after = pad(before, self._margins), pad(after, self._margins)
        with computing(self.precision, before.device):
            guessed = self.network(before, after).float()
        left, right, top, bottom = self._margins
        guessed = guessed[:, :, top : guessed.shape[2] - bottom, left : guessed.shape[3] - right]
        truncated = (guessed * 255).clamp_(0, 255).trunc_()  # VBench truncates, where rounding would be right
        return 1 - (truncated - odd).abs_().mean((1, 2, 3)) / 255

    def finish(self) -> dict[str, np.ndarray]:
        rows, self._rows, self._waiting = self._rows, [], None
        scores = torch.cat(rows).cpu().numpy() if rows else np.zeros(0, np.float32)
        return {"smoothness/score": scores, "smoothness/frame": 2 * np.arange(len(scores)) + 1}


def margins(height_px: int, width_px: int, stride: int) -> tuple[int, int, int, int]:
    """Pixels to add on the left, right, top and bottom, so that both sides are multiples of the stride."""
    wide, high = -width_px % stride, -height_px % stride
    return wide // 2, wide - wide // 2, high // 2, high - high // 2


def _check(height_px: int, width_px: int, by: tuple[int, int, int, int], network: str) -> None:
    left, right, top, bottom = by
    if min(height_px + top + bottom, width_px + left + right) < SMALLEST_PX:
        raise UserError(
            f"frames of {height_px}x{width_px} are too small for {network}: wanted at least {SMALLEST_PX} pixels on "
            "either side"
        )


def pad(pixels: UInt8[Tensor, "t 3 h w"], by: tuple[int, int, int, int]) -> Float[Tensor, "t 3 y x"]:
    """In [0, 1], with the border's pixels repeated."""
    pictures = pixels.float() / 255
    return F.pad(pictures, by, mode="replicate") if any(by) else pictures


def fastest(flow: Float[Tensor, "t 2 y x"]) -> Float[Tensor, " t"]:
    """The mean length of the longest twentieth of the arrows."""
    lengths = flow.square().sum(1).sqrt().flatten(1)
    count = int(lengths.shape[1] * FASTEST)
    return lengths.topk(count, sorted=False).values.mean(1)
