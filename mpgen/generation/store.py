"""Sections kept on disk: what must be seen again, without the memory growing with the length of the video."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mpgen.tensors import Latents


class LatentStore:
    """The sections made so far, in the order they were made; a folder that the caller owns and removes.

    A section of 9 latent frames at 480 x 832 is 3.6 MB.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def append(self, section: Latents) -> None:
        np.save(self._file(self.count), section.detach().float().cpu().numpy())
        self.count += 1

    def __iter__(self) -> Iterator[Latents]:
        return (self._read(number) for number in range(self.count))

    def __reversed__(self) -> Iterator[Latents]:
        return (self._read(number) for number in reversed(range(self.count)))

    def _read(self, number: int) -> Latents:
        return torch.from_numpy(np.load(self._file(number)))

    def _file(self, number: int) -> Path:
        return self.folder / f"section{number:06d}.npy"
