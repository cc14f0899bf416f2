"""Adapters that train beside weights in 8 bits."""

from dataclasses import replace

import pytest
import torch

from mpgen.backbones.eight_bit import EightBitLinear, EightBitLoraLinear
from mpgen.backbones.lora import LoraConfig
from mpgen.checkpoints import load_for_generation
from mpgen.errors import UserError
from mpgen.planner.needs import Network, machines_for, memory_need
from mpgen.training.dry_run import DryRun, Shape, dry_run

PRECISION = {"precision": "bf16-mixed"}


@pytest.fixture
def make(make_module, trained):
    def make(**options):
        config = replace(make_module().denoiser_config, lora=LoraConfig(rank=2))
        given = {"denoiser": config, "init_from": trained, "frozen_dtype": "int8", "train": ["*.lora_*"]}
        return make_module(**(given | options))

    return make


def test_adapters_learn_and_the_checkpoint_names_what_is_in_8_bits(make, make_small_data, fit, tmp_path):
    module = make()
    fit(module, make_small_data(), tmp_path, 1, **PRECISION)
    layers = [layer for layer in module.denoiser.modules() if isinstance(layer, EightBitLinear)]
    adapted = [layer for layer in layers if isinstance(layer, EightBitLoraLinear)]
    assert adapted
    assert len(adapted) < len(layers)
    assert any(layer.lora_B.weight.any() for layer in adapted)
    assert all(layer.weight.dtype == torch.uint8 for layer in layers)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert not any(tensor.dtype == torch.uint8 for tensor in saved.values())
    fit(make(), make_small_data(), tmp_path, 2, ckpt_path=tmp_path / "last.ckpt", **PRECISION)
    whole = load_for_generation(tmp_path / "last.ckpt", torch.device("cpu")).denoiser
    assert all(p.is_floating_point() for p in whole.parameters())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"init_from": None}, "is for weights that come from a file"), ({"train": ["*"]}, "of blocks that do not train")],
)
def test_what_cannot_be_in_8_bits_is_said(make, make_small_data, fit, tmp_path, options, complaint):
    with pytest.raises(UserError, match=complaint):
        fit(make(**options), make_small_data(), tmp_path, 1, **PRECISION)


def test_a_plan_counts_them(make):
    trainer = {"devices": 1, "num_nodes": 1, "precision": "bf16-mixed", "strategy": "auto"}
    trial = DryRun((5, 7), context_tokens=11, activation_bytes=10**6, state_bytes=4000, step_bytes=30)
    need = {}
    for dtype in ("bfloat16", "int8"):
        module = make(frozen_dtype=dtype)
        network = Network.of(module)
        need[dtype] = memory_need(module, network, machines_for(trainer), trial).weights
        if dtype == "int8":
            stored = [layer for layer in network.denoiser.modules() if isinstance(layer, EightBitLinear)]
    saved = sum(layer.weight.numel() - 4 * layer.out_features for layer in stored)
    assert need["bfloat16"] - need["int8"] == saved > 0


@pytest.mark.slow
def test_a_step_of_them_is_counted(make):
    trainer = {"devices": 1, "num_nodes": 1, "precision": "bf16-mixed", "strategy": "auto"}
    run = dry_run(make(), Shape(1, 4, 4, 5, 6), machines_for(trainer).precision)
    assert run.section_flops[0] > 0
