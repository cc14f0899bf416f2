"""RAFT's optical flow, for those who want VBench's dynamic degree as a filter; weights are yours."""

from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from jaxtyping import UInt8
from torchvision.models.optical_flow import raft_large

from mpgen.data.curate.scores import FPS, FrameScorer
from mpgen.errors import UserError

STEP_FRAMES = FPS // 8  # VBench scorers eight times a second
LARGEST = 0.05
ITERATIONS = 20


class RaftFlow(FrameScorer):
    """The mean of the 5 % largest flows between frames an eighth of a second apart.

    VBench measures the full picture; this the small one of the other scores, against a threshold that goes with the
    size as VBench's does.

    Args:
        weights: a state dict of torchvision's `raft_large`; VBench's are those called C_T_V1.

    Raises:
        UserError: the file is missing or holds something else.
    """

    def __init__(self, weights: Path) -> None:
        self._network = load_raft(weights)
        self._previous: torch.Tensor | None = None
        self._flow: list[float] = []

    def see(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        if index % STEP_FRAMES:
            return
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        if self._previous is not None:
            self._flow.append(largest_flow(self._network, self._previous, image))
        self._previous = image

    def found(self) -> dict[str, tuple]:
        return {"flow": tuple(self._flow)}


@torch.no_grad()
def largest_flow(network: torch.nn.Module, first: torch.Tensor, second: torch.Tensor) -> float:
    """VBench's score of a pair: the mean of the largest 5 % of flow lengths, in pixels."""
    flow = network(first, second, num_flow_updates=ITERATIONS)[-1]
    lengths = flow.square().sum(1).sqrt().flatten()
    return round(float(lengths.topk(int(LARGEST * len(lengths))).values.mean()), 2)


@lru_cache(maxsize=1)
def load_raft(weights: Path) -> torch.nn.Module:
    """The network, once in a process.

    Raises:
        UserError: the file is missing or holds something else.
    """
    if not weights.is_file():
        raise UserError(f"--raft {weights}: no such file, wanted the state dict of torchvision's raft_large")
    network = raft_large(weights=None).eval()
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError, EOFError, UnpicklingError) as error:
        raise UserError(f"--raft {weights}: is no state dict of torchvision's raft_large") from error
    return network
