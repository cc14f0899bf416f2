"""Muon takes torch's step, in fp32 without torch's rounding; AdamW in 8 bits takes nearly AdamW's."""

import pytest
import torch
from torch.optim import AdamW, Muon

from mpgen.errors import UserError
from mpgen.training import optimizers
from mpgen.training.optimizers import AdamW8bit, MuonIn, orthogonal


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


@pytest.fixture
def make_named():
    """A matrix of blocks that are cut off, and a bias that is too small for 8 bits."""

    def make() -> list[tuple[str, torch.nn.Parameter]]:
        generator = torch.Generator().manual_seed(0)
        shapes = {"weight": (70, 90), "bias": (90,)}
        return [(name, torch.nn.Parameter(torch.randn(shape, generator=generator))) for name, shape in shapes.items()]

    return make


def step_all(optimizer, named, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in named:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def test_adamw_in_8_bits_is_nearly_adamw_in_a_quarter_of_the_memory(make_named):
    pytest.importorskip("bitsandbytes")
    settings = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}
    ours, theirs, start = make_named(), make_named(), make_named()
    optimizer, exact = AdamW8bit(ours, **settings), AdamW(theirs, **settings)
    for seed in range(5):
        step_all(optimizer, ours, seed)
        step_all(exact, theirs, seed)
    for (_, a), (_, b), (_, before) in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.06 * (b - before).norm()
    kept = {}
    for values in optimizer.state.values():
        kept |= {value.data_ptr(): value.nbytes for value in values.values() if isinstance(value, torch.Tensor)}
    assert sum(kept.values()) == optimizer.state_bytes < 8 * 70 * 90 / 3


def test_adamw_in_8_bits_goes_on_from_its_checkpoint(make_named, tmp_path):
    pytest.importorskip("bitsandbytes")
    first, again = make_named(), make_named()
    optimizer, resumed = AdamW8bit(first), AdamW8bit(again)
    step_all(optimizer, first, 0)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    for (_, there), (_, here) in zip(first, again, strict=True):
        here.data = there.detach().clone()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for one, named in ((optimizer, first), (resumed, again)):
        step_all(one, named, 1)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))


def test_adamw_in_8_bits_says_what_it_needs(make_named, monkeypatch):
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs bitsandbytes: wanted pip install 'mpgen\[eight_bit\]'"):
        step_all(AdamW8bit(named := make_named()), named, 0)
