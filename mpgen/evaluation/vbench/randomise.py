"""Random weights that are the same on every machine: for tests, never for a score."""

import math

import numpy as np
import torch
from torch import nn


def randomise(network: nn.Module, seed: int, gain: float = 0.75) -> None:
    """Fills a network with numbers that follow from the seed alone."""
    random = np.random.RandomState(seed)  # whose numbers are frozen for good
    with torch.no_grad():
        for name, tensor in sorted(network.state_dict().items()):
            if not tensor.is_floating_point():
                continue
            noise = random.standard_normal(tuple(tensor.shape)).astype(np.float32)
            if name.endswith("running_var"):
                values = 0.5 + np.abs(noise)
            elif tensor.ndim == 1 and name.endswith("weight"):
                values = 1 + 0.2 * noise  # norms and slopes
            elif tensor.ndim == 1:
                values = 0.2 * noise
            else:
                values = gain * noise / math.sqrt(max(1, tensor[0].numel()))
            tensor.copy_(torch.from_numpy(values))
