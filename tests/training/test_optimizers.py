"""Muon takes torch's step, in fp32 without torch's rounding."""

import pytest
import torch
from torch.optim import Muon

from mpgen.training.optimizers import MuonIn, orthogonal


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (7, 7)])
def test_steps_are_those_of_torch_up_to_its_bf16(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours_optimizer = MuonIn([ours], dtype, lr=0.02, momentum=0.95, weight_decay=0.1, ns_steps=4)
    theirs_optimizer = Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.1, ns_steps=4)
    for _ in range(5):
        gradient = torch.randn(shape, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours_optimizer.step()
        theirs_optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved


@pytest.mark.parametrize("shape", [(5, 12), (12, 5)])
def test_a_step_is_about_equally_long_in_every_direction(shape):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    lengths = torch.linalg.svdvals(orthogonal(gradient, steps=8))
    assert lengths.min() > 0.6
    assert lengths.max() < 1.3


def test_a_checkpoint_of_torchs_muon_is_carried_on():
    weight = torch.nn.Parameter(torch.eye(3))
    theirs = Muon([weight], lr=0.02)
    weight.grad = torch.ones(3, 3)
    theirs.step()
    ours = MuonIn([weight], lr=0.02)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.state[weight]["momentum_buffer"], theirs.state[weight]["momentum_buffer"])
