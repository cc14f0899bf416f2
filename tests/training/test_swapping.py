"""Block swapping in a run: it learns the same, its plan counts what waits, and what cannot be is said."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from mpgen.backbones.lora import LoraConfig
from mpgen.backbones.swapping import AT_ONCE, frozen_matrices
from mpgen.errors import UserError
from mpgen.planner.needs import Network, machines_for, memory_need
from mpgen.training.dry_run import DryRun
from mpgen.training.parallel import Replicated


@pytest.fixture
def make(make_module):
    config = replace(make_module().denoiser_config, lora=LoraConfig(rank=3))
    return partial(make_module, denoiser=config, train=["*.lora_*", "memory.*"], recompute="full", swap_blocks=2)


def test_a_run_learns_what_it_learns_without(make, make_small_data, fit, perturb, tmp_path):
    begun, states = [], []
    for count in (0, 2):
        module = make(swap_blocks=count)
        module.configure_model()
        perturb(module.denoiser)  # blocks begin as the identity, and adapters would learn nothing
        begun.append({name: tensor.clone() for name, tensor in module.denoiser.state_dict().items()})
        fit(module, make_small_data(), tmp_path / str(count), 2)
        states.append(module.denoiser.state_dict())
    assert any("single" in name and not torch.equal(begun[0][name], tensor) for name, tensor in states[0].items())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


class Shards(Replicated):
    keeps_layers = False


@pytest.mark.parametrize("options", [{"recompute": "selective"}, {"compile_blocks": True}])
def test_what_cannot_be_swapped_is_said(make, options):
    with pytest.raises(UserError, match=r"swap_blocks 2: wanted model\.recompute full"):
        make(**options).configure_model()
    module = make()
    module.distribution = Shards()
    with pytest.raises(UserError, match=r"swap_blocks 2: .* copies \(ddp\) or one GPU"):
        module.configure_model()


def test_a_plan_counts_what_waits_and_what_is_copied(make):
    machines = machines_for({"devices": 1, "num_nodes": 1, "precision": "bf16-mixed", "strategy": "auto"})
    trial = DryRun((5, 7), context_tokens=11, activation_bytes=10**6, state_bytes=4000, step_bytes=30)
    module = make(frozen_dtype="bfloat16")
    network = Network.of(module)
    sizes = [sum(2 * p.numel() for p in frozen_matrices(b).values()) for b in network.denoiser.backbone.blocks]
    here, away = (memory_need(module, network, machines, trial, count) for count in (0, 2))
    assert memory_need(module, network, machines, trial) == away
    assert here.weights - away.weights == sum(sizes)
    assert (here.swapped, away.swapped) == (0, AT_ONCE * max(sizes))
    assert away.total - here.total == AT_ONCE * max(sizes) - sum(sizes)
