"""RAFT (Teed and Deng 2020): optical flow between two frames by twenty refinements of a flow at an eighth of the size.

torchvision has the layers. The loop is ours: features of a frame are computed once, not for both pairs that it is in;
what does not change over the refinements (the context's part of the recurrent unit) is computed before them; only the
last flow is brought to full size.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_large
from torchvision.models.optical_flow.raft import ConvGRU

from mpgen.optical_flow.correlation import Pyramid, pixel_grid

STRIDE = 8
REFINEMENTS = 20
LEVELS, RADIUS = 4, 4
FASTEST = 0.05  # of a picture, whose mean motion is VBench's score of a pair


class Raft(nn.Module):
    """Flow between frames; both sides must be multiples of 8 and at least 128 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = raft_large(weights=None, progress=False)

    def features(self, frames: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c y x"]:
        """What is matched between frames; `frames` are 0 to 255."""
        return self.layers.feature_encoder(_centred(frames))

    def forward(
        self,
        frames: Float[Tensor, "b 3 h w"],
        features: Float[Tensor, "b c y x"],
        next_features: Float[Tensor, "b c y x"],
    ) -> Float[Tensor, "b 2 h w"]:
        """Pixels that each point of a frame moves by until the next frame, to the right and down.

        Args:
            frames: the first of each pair, 0 to 255.
            features: theirs.
            next_features: those of the second of each pair.
        """
        layers = self.layers
        correlation = Pyramid(features, next_features, LEVELS, RADIUS)
        hidden, context = layers.context_encoder(_centred(frames)).chunk(2, 1)
        hidden, context = torch.tanh(hidden), torch.relu(context)
        recurrent = layers.update_block.recurrent_block
        units = [GatedUnit.split(unit, context) for unit in (recurrent.convgru1, recurrent.convgru2)]
        start = pixel_grid(features)
        place = start
        for _ in range(REFINEMENTS):
            motion = layers.update_block.motion_encoder(place - start, correlation(place))
            for unit in units:
                hidden = unit(hidden, motion)
            place = place + layers.update_block.flow_head(hidden)
        return _to_full_size(place - start, layers.mask_predictor(hidden))


def fastest(flow: Float[Tensor, "t 2 y x"]) -> Float[Tensor, " t"]:
    """The mean length of the longest twentieth of the arrows."""
    right, down = flow.unbind(1)
    squares = torch.addcmul(right * right, down, down).flatten(1)
    count = int(squares.shape[1] * FASTEST)
    return _largest(squares, count).sqrt().mean(1)


def _largest(values: Float[Tensor, "t n"], count: int) -> Float[Tensor, "t count"]:
    """In any order; on a CPU by numpy, which selects fifteen times as fast."""
    if values.device.type != "cpu":
        return values.topk(count, sorted=False).values
    rest = values.shape[1] - count
    return torch.from_numpy(np.partition(values.numpy(), rest, axis=1)[:, rest:])


def _centred(frames: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    return frames * (2 / 255) - 1


@dataclass(frozen=True)
class GatedUnit:
    """A convolutional gated recurrent unit with the part of a constant input computed beforehand.

    `gates` and `candidate` are (weight, the constant input's contribution with the bias).
    """

    gates: tuple[Tensor, Tensor]
    candidate: tuple[Tensor, Tensor]
    padding: tuple[int, int]

    @classmethod
    def split(cls, unit: ConvGRU, constant: Float[Tensor, "b c y x"]) -> "GatedUnit":
        """Of a unit whose input is hidden state, constant and motion, one after the other."""
        width = constant.shape[1]
        end = 2 * width  # the hidden state is as wide as the context

        def halves(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            part = F.conv2d(constant, weight[:, width:end], bias, padding=unit.convz.padding)
            return torch.cat([weight[:, :width], weight[:, end:]], 1), part

        gates = halves(torch.cat([unit.convz.weight, unit.convr.weight]), torch.cat([unit.convz.bias, unit.convr.bias]))
        return cls(gates, halves(unit.convq.weight, unit.convq.bias), unit.convz.padding)

    def __call__(self, hidden: Float[Tensor, "b c y x"], motion: Float[Tensor, "b m y x"]) -> Float[Tensor, "b c y x"]:
        weight, constant = self.gates
        gates = F.conv2d(torch.cat([hidden, motion], 1), weight, padding=self.padding).add_(constant)
        update, reset = gates.sigmoid_().chunk(2, 1)
        weight, constant = self.candidate
        candidate = F.conv2d(torch.cat([reset * hidden, motion], 1), weight, padding=self.padding).add_(constant)
        return torch.lerp(hidden, candidate.tanh_(), update)


def _to_full_size(flow: Float[Tensor, "b 2 y x"], mask: Float[Tensor, "b m y x"]) -> Float[Tensor, "b 2 h w"]:
    """Each fine pixel is a weighted mean of the nine coarse ones around it."""
    batch, _, rows, columns = flow.shape
    weights = mask.float().view(batch, 1, 9, STRIDE, STRIDE, rows, columns).softmax(2)
    around = F.unfold(STRIDE * flow, 3, padding=1).view(batch, 2, 9, 1, 1, rows, columns)
    fine = (weights * around).sum(2).permute(0, 1, 4, 2, 5, 3)
    return fine.reshape(batch, 2, STRIDE * rows, STRIDE * columns)


_FROM_PRINCETON = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"\.(layer\d\.\d)\.conv(\d)\.", r".\1.convnormrelu\2.0."),
    (r"\.(layer\d\.\d)\.norm([12])\.", r".\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)


def from_princeton(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names as torchvision's; other names stay as they are."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.")
        if re.search(r"\.norm3\.", name):
            continue  # the same tensors again as downsample.1
        for pattern, replacement in _FROM_PRINCETON:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
