"""A run that trains LoRA adapters: the trunk stays, the checkpoint is small, and what is exported is the sum."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpgen.backbones.lora import ADAPTER, LoraConfig, adapted_layers
from mpgen.checkpoints import load_for_generation, open_trained, override
from mpgen.checkpoints.command import export
from mpgen.checkpoints.lora import read_lora
from mpgen.conditioning import Conditioning
from mpgen.training.callbacks.ema import EMA
from mpgen.training.checkpointing import RunCheckpoints

CPU = torch.device("cpu")
TRAIN = ["backbone.norm_out.*", "memory.*", "*.lora_*"]


@pytest.fixture
def begun(make_module, perturb, tmp_path):
    """Weights without steps, to begin from."""
    module = make_module()
    module.configure_model()
    save_file(perturb(module.denoiser).state_dict(), tmp_path / "begin.safetensors")
    return tmp_path / "begin.safetensors"


@pytest.fixture
def make(make_module, begun):
    config = replace(make_module().denoiser_config, lora=LoraConfig(rank=3))
    fast = partial(torch.optim.AdamW, lr=0.03)
    return partial(make_module, denoiser=config, train=TRAIN, init_from=begun, optimizer=fast, clip_norm=10.0)


@pytest.fixture
def run(fit, make, make_small_data, tmp_path):
    """A module after four steps; its checkpoint is `tmp_path / "run" / "last.ckpt"`."""
    module = make()
    trainer = fit(module, make_small_data(), tmp_path / "run", 4, plugins=[RunCheckpoints()])
    (average,) = (callback for callback in trainer.callbacks if isinstance(callback, EMA))
    with average.averaged(module):
        kept = {name: tensor.clone() for name, tensor in module.denoiser.state_dict().items()}
    module.denoiser.load_state_dict(kept)
    return module


def velocity(denoiser) -> torch.Tensor:
    """What a network that fits the tiny encoders says of a noisy section."""
    config = denoiser.backbone.config
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(5))
    conditioning = Conditioning(
        normal(1, 4, config.text_embed_dim), torch.ones(1, 4, dtype=torch.bool),
        normal(1, config.pooled_projection_dim), normal(1, 3, config.image_proj_dim),
    )  # fmt: skip
    with torch.no_grad():
        context = denoiser.begin(normal(1, config.in_channels, 1, 4, 4), conditioning).pack()
        noisy = normal(1, config.in_channels, 2, 4, 4)
        return denoiser(noisy, torch.tensor([0.6]), context, conditioning.guided(2.0))


def test_what_is_exported_says_what_the_run_said(run, begun, tmp_path):
    export(tmp_path / "run" / "last.ckpt", tmp_path / "out")
    exported = load_file(tmp_path / "out" / "mpgen.safetensors")
    begin = load_file(begun)
    assert exported.keys() == begin.keys()
    learned = {name for name in begin if not torch.equal(begin[name], exported[name])}
    assert "backbone.transformer_blocks.0.attn.to_q.weight" in learned
    assert not any(name.startswith("backbone.x_embedder") for name in learned)
    alone = read_lora(
        tmp_path / "out" / "lora.safetensors", load_for_generation(tmp_path / "out", CPU).denoiser.backbone
    )
    adapters = {name: adapter for part in alone for name, adapter in part.items()}
    assert {name for name in learned if "norm_out" not in name and not name.startswith("memory.")} == set(adapters)
    for name, adapter in adapters.items():
        torch.testing.assert_close(adapter.added_to(begin[name]), exported[name], atol=1e-6, rtol=1e-5)
    got = velocity(load_for_generation(tmp_path / "out", torch.device("cpu")).denoiser)
    torch.testing.assert_close(got, velocity(run.denoiser), atol=1e-5, rtol=1e-5)
    for layer in adapted_layers(run.denoiser):
        torch.nn.init.zeros_(layer.lora_B.weight)
    assert (velocity(run.denoiser) - got).abs().max() > 1e-3  # so the steps had something to say


def test_the_checkpoint_holds_what_learned_and_no_backbone(run, tmp_path):
    saved = RunCheckpoints().load_checkpoint(tmp_path / "run" / "last.ckpt")
    assert saved["state_dict"].keys() == {f"denoiser.{name}" for name in run.trainable.names}
    assert saved["callbacks"]["EMA"]["shadow"].keys() == set(run.trainable.names)
    own = [name for name in run.trainable.names if ADAPTER not in name]
    assert all(name.startswith(("backbone.norm_out.", "memory.")) for name in own)
    assert {name.split(".")[0] for name in own} == {"backbone", "memory"}


def test_a_run_with_steps_is_one_to_begin_from_with_or_without_them(run, make, make_module, tmp_path):
    last = tmp_path / "run" / "last.ckpt"
    raw = RunCheckpoints().load_checkpoint(last)["state_dict"]
    again = make(init_from=last)
    again.configure_model()
    for name, tensor in raw.items():
        assert torch.equal(again.denoiser.state_dict()[name.removeprefix("denoiser.")], tensor), name
    merged = make_module(init_from=last, train=["backbone.proj_out.*"])
    merged.configure_model()
    torch.testing.assert_close(velocity(merged.denoiser), velocity(again.denoiser), atol=1e-5, rtol=1e-5)
    assert not any(ADAPTER in name for name in merged.referenced)


def test_a_resumed_run_goes_on_bit_for_bit(fit, make, make_small_data, tmp_path):
    weights = []
    for cuts in ((4,), (2, 4)):
        folder, last = tmp_path / f"{len(cuts)}", None
        for steps in cuts:
            module = make()
            fit(module, make_small_data(), folder, steps, ckpt_path=last, plugins=[RunCheckpoints()])
            last = folder / "last.ckpt"
        weights.append(module.denoiser.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(weights[1][name], tensor), name


def test_a_run_overrides_weights_that_are_there(run, make_module, begun, tmp_path):
    plain = make_module(init_from=begun)
    plain.configure_model()
    trained = open_trained(tmp_path / "run" / "last.ckpt")
    override(plain.denoiser, trained.weights, trained.path)
    torch.testing.assert_close(velocity(plain.denoiser), velocity(run.denoiser), atol=1e-5, rtol=1e-5)
