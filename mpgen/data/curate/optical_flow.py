"""RAFT's optical flow, for those who want VBench's dynamic degree as a filter; weights are yours."""

from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from jaxtyping import UInt8

from mpgen.data.curate.scores import FPS, FrameScorer
from mpgen.errors import UserError
from mpgen.optical_flow.raft import Raft, fastest, from_princeton

STEP_FRAMES = FPS // 8  # VBench scores eight times a second


class RaftFlow(FrameScorer):
    """The mean of the 5 % largest flows between frames an eighth of a second apart.

    VBench measures the full picture; this the small one of the other scores, against a threshold that goes with the
    size as VBench's does.

    Args:
        weights: `raft-things.pth`, or torchvision's copy of it, the state dict called C_T_V1.

    Raises:
        UserError: the file is missing or holds something else.
    """

    def __init__(self, weights: Path) -> None:
        self._network = load_raft(weights)
        self._previous: tuple[torch.Tensor, torch.Tensor] | None = None  # a frame and its features
        self._flow: list[float] = []

    @torch.inference_mode()
    def see(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        if index % STEP_FRAMES:
            return
        frame = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        features = self._network.features(frame)
        if self._previous is not None:
            flow = self._network(*self._previous, features)
            self._flow.append(round(float(fastest(flow)), 2))
        self._previous = frame, features

    def found(self) -> dict[str, tuple]:
        return {"flow": tuple(self._flow)}


@lru_cache(maxsize=1)
def load_raft(weights: Path) -> Raft:
    """The network, once in a process.

    Raises:
        UserError: the file is missing or holds something else.
    """
    if not weights.is_file():
        raise UserError(f"--raft {weights}: no such file, wanted raft-things.pth or torchvision's copy of it")
    network = Raft().eval()
    try:
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
        network.layers.load_state_dict(from_princeton(tensors))
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError, EOFError, UnpicklingError) as error:
        raise UserError(f"--raft {weights}: is no state dict of RAFT") from error
    return network
