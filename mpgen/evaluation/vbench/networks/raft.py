"""RAFT with VBench's weight file."""

from pathlib import Path

from mpgen.evaluation.vbench.networks.loading import fill, read_tensors
from mpgen.optical_flow import raft


class Raft(raft.Raft):
    """The network of `optical_flow`, loaded strictly."""

    def load(self, path: Path) -> None:
        """Takes `raft-things.pth`, or torchvision's copy of it, `raft_large_C_T_V1-22a6c225.pth`.

        Raises:
            UserError: when the file does not fit.
        """
        fill(self.layers, raft.from_princeton(read_tensors(path)), path)
