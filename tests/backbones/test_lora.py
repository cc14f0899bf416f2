"""LoRA adapters: beside the released names, zero at first, and PEFT's arithmetic."""

from dataclasses import replace

import pytest
import torch

from mpgen.backbones.lora import ADAPTER, LoraConfig, LoraLinear
from mpgen.errors import UserError
from mpgen.training.parameters import select_trainable

CONFIG = LoraConfig(rank=2)
ATTENTION = LoraConfig(rank=2, targets=("transformer_blocks.*.to_q", "*.to_out.0"))


@pytest.fixture
def velocity(make_conditioning, latents):
    """What a network says of two noisy sections."""

    def run(denoiser) -> torch.Tensor:
        conditioning = make_conditioning(4, 2)
        context = denoiser.begin(latents(2, 1), conditioning).pack()
        return denoiser(latents(2, 3, seed=1), torch.tensor([0.3, 0.8]), context, conditioning.guided(4.0))

    return run


def test_an_adapter_begins_as_nothing_and_then_counts(make_denoiser, velocity, perturb):
    plain, adapted = make_denoiser(), make_denoiser(lora=CONFIG)
    lacking, strange = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert strange == []
    assert lacking
    assert all(ADAPTER in name for name in lacking)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)  # `make_denoiser` perturbs all
    assert torch.equal(velocity(adapted), velocity(plain))
    assert not torch.allclose(velocity(perturb(adapted, 0.1)), velocity(plain), atol=1e-3)


def test_released_names_stay_and_each_layer_named_gets_two_more(make_denoiser):
    plain, adapted = (dict(make_denoiser(lora=lora).named_parameters()) for lora in (None, ATTENTION))
    assert [name for name in adapted if ADAPTER not in name] == list(plain)
    layers = ["backbone.transformer_blocks.0.attn.to_q", "backbone.transformer_blocks.0.attn.to_out.0"]
    layers.append("backbone.context_embedder.token_refiner.refiner_blocks.0.attn.to_out.0")
    assert {name for name in adapted if ADAPTER in name} == {f"{y}.lora_{x}.weight" for y in layers for x in "AB"}


def test_the_defaults_are_the_matrices_of_the_blocks(make_denoiser):
    denoiser = make_denoiser(lora=CONFIG)
    adapted = {name for name, module in denoiser.named_modules() if isinstance(module, LoraLinear)}
    blocks = ("backbone.transformer_blocks.", "backbone.single_transformer_blocks.")
    matrices = {
        name for name, module in denoiser.named_modules()
        if isinstance(module, torch.nn.Linear) and ".lora_" not in name
        and name.startswith(blocks) and ".norm" not in name
    }  # fmt: skip
    assert adapted == matrices


def test_a_layer_computes_what_pefts_computes(make_denoiser):
    peft = pytest.importorskip("peft")
    ours = make_denoiser(lora=CONFIG).backbone.transformer_blocks[0].attn.to_q
    plain = torch.nn.ModuleDict({"to_q": torch.nn.Linear(ours.in_features, ours.out_features)})
    plain.to_q.load_state_dict({"weight": ours.weight, "bias": ours.bias})
    theirs = peft.inject_adapter_in_model(peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"]), plain).to_q
    theirs.lora_A.default.load_state_dict(ours.lora_A.state_dict())
    theirs.lora_B.default.load_state_dict(ours.lora_B.state_dict())
    x = torch.randn(3, 7, ours.in_features)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=1e-6)


def test_what_cannot_be_meant_is_an_error_that_says_so(make_denoiser):
    with pytest.raises(UserError, match=r"lora\.targets '\*\.to_z' names no linear layer"):
        make_denoiser(lora=replace(CONFIG, targets=("*.to_z",)))
    with pytest.raises(ValueError, match=r"lora\.rank 0"):
        replace(CONFIG, rank=0)
    with pytest.raises(UserError, match=r"add '\*\.lora_\*' to model\.train"):
        select_trainable(make_denoiser(lora=CONFIG), ["memory.*"])
