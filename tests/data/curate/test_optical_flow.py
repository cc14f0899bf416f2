"""RAFT as a look; its weights are drawn here, so only the rule around it is tested."""

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large

from mpgen.data.curate import optical_flow
from mpgen.data.curate.optical_flow import RaftFlow, load_raft
from mpgen.errors import UserError


class Known:
    """Says that a tenth of the picture moves as many pixels as its grey level differs from the last frame's."""

    def features(self, frame: torch.Tensor) -> torch.Tensor:
        return frame[:, :1, :1, :1]

    def __call__(self, frame: torch.Tensor, features: torch.Tensor, next_features: torch.Tensor) -> torch.Tensor:
        assert torch.equal(features, self.features(frame))
        flow = torch.zeros(1, 2, 20, 40)
        flow[:, 0, :2] = next_features - features
        return flow


def test_every_third_frame_is_compared_with_the_one_an_eighth_of_a_second_before(monkeypatch, tmp_path):
    monkeypatch.setattr(optical_flow, "load_raft", lambda weights: Known())
    look = RaftFlow(tmp_path / "none.pth")
    for index in range(25):
        look.see(index, np.full((8, 8, 3), 5 * (index // 3) + 99 * (index % 3), np.uint8))
    assert look.found() == {"flow": (5.0,) * 8}


def test_weights_that_are_missing_or_of_another_network_are_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_raft(tmp_path / "none.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="is no state dict"):
        load_raft(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="is no state dict"):
        load_raft(tmp_path / "text.pth")


@pytest.mark.slow
def test_the_network_takes_the_small_pictures(tmp_path):
    torch.save(raft_large(weights=None).state_dict(), tmp_path / "raft.pth")
    look = RaftFlow(tmp_path / "raft.pth")
    for index in range(4):
        look.see(index, np.full((144, 256, 3), 40 * index, np.uint8))
    ((flow,),) = look.found().values()
    assert np.isfinite(flow)
