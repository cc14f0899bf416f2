"""LoRA files for Wan under every name that trainers give its layers, among them whole differences of norms."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mpgen.backbones.lora import LoraConfig
from mpgen.checkpoints import load_released
from mpgen.denoiser import Denoiser, DenoiserConfig

RANK = 3
LAYERS = {  # Wan's own names and the released ones
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.1.self_attn.o": "blocks.1.attn1.to_out.0",
    "blocks.0.cross_attn.k": "blocks.0.attn2.to_k",
    "blocks.1.ffn.0": "blocks.1.ffn.net.0.proj",
    "blocks.0.ffn.2": "blocks.0.ffn.net.2",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "head.head": "proj_out",
}


@pytest.fixture
def released(make_denoiser, wan_backbone, tmp_path):
    """A backbone and its released folder."""
    source = make_denoiser(backbone=wan_backbone, memory=None).backbone
    folder = tmp_path / "released"
    folder.mkdir()
    card, tensors = source.to_released()
    (folder / "config.json").write_text(json.dumps(card))
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return source, folder


@pytest.fixture
def adapters(released):
    """Down and up of every layer, by its released name."""
    generator, made = torch.Generator().manual_seed(0), {}
    for layer in LAYERS.values():
        rows, columns = released[0].get_submodule(layer).weight.shape
        made[layer] = tuple(torch.randn(*size, generator=generator) for size in ((RANK, columns), (rows, RANK)))
    return made


def assert_merged(got, source, made, scale: float, differences=()) -> None:
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    for layer, (down, up) in made.items():
        state[f"{layer}.weight"] += scale * up @ down
    for name, difference in dict(differences).items():
        state[name] += difference
    for name, tensor in got.backbone.state_dict().items():
        torch.testing.assert_close(tensor, state[name], atol=2e-5, rtol=1e-5, msg=name)


NAMES = {
    "diffusers": lambda own, new: (f"transformer.{new}.lora_A.weight", f"transformer.{new}.lora_B.weight"),
    "peft": lambda own, new: tuple(f"base_model.model.{new}.lora_{half}.default.weight" for half in "AB"),
    "wan": lambda own, new: (f"diffusion_model.{own}.lora_A.weight", f"diffusion_model.{own}.lora_B.weight"),
    "wan, down and up": lambda own, new: (
        f"diffusion_model.{own}.lora_down.weight",
        f"diffusion_model.{own}.lora_up.weight",
    ),
    "kohya of wan": lambda own, new: tuple(
        f"lora_unet_{own.replace('.', '_')}.lora_{half}.weight" for half in ("down", "up")
    ),
    "kohya of diffusers": lambda own, new: tuple(
        f"lora_transformer_{new.replace('.', '_')}.lora_{half}.weight" for half in ("down", "up")
    ),
}


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("alpha", [None, 1.5])
def test_names_of_trainers(released, adapters, tmp_path, family, alpha):
    source, folder = released
    state = {}
    for own, new in LAYERS.items():
        down, up = NAMES[family](own, new)
        state |= {down: adapters[new][0], up: adapters[new][1]}
        if alpha is not None:
            state[down.partition(".lora_")[0] + ".alpha"] = torch.tensor(alpha)
    save_file(state, tmp_path / "lora.safetensors")
    scale = 1.0 if alpha is None else alpha / RANK
    assert_merged(load_released(folder, lora=[tmp_path / "lora.safetensors"]), source, adapters, scale)


def test_whole_differences_of_weights_biases_and_norms(released, tmp_path):
    source, folder = released
    names = {
        "blocks.0.self_attn.q.diff": "blocks.0.attn1.to_q.weight",
        "blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
        "blocks.1.cross_attn.norm_k.diff": "blocks.1.attn2.norm_k.weight",
        "blocks.1.norm3.diff": "blocks.1.norm2.weight",
        "blocks.1.norm3.diff_b": "blocks.1.norm2.bias",
        "patch_embedding.diff": "patch_embedding.weight",
        "head.head.diff_b": "proj_out.bias",
    }
    wanted = {name: torch.randn(source.state_dict()[name].shape) for name in names.values()}
    save_file({f"diffusion_model.{own}": wanted[name] for own, name in names.items()}, tmp_path / "lora.safetensors")
    assert_merged(load_released(folder, lora=[tmp_path / "lora.safetensors"]), source, {}, 1.0, wanted)


def test_a_file_that_diffusers_and_peft_wrote_gives_what_they_compute(released, tmp_path):
    peft, diffusers = pytest.importorskip("peft"), pytest.importorskip("diffusers")
    _, folder = released
    model = diffusers.HeliosTransformer3DModel.from_pretrained(folder)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=10, target_modules=["to_q", "net.0.proj"], init_lora_weights=False)
    model.add_adapter(config)
    model.save_lora_adapter(tmp_path / "adapter")
    model.fuse_lora()
    got = load_released(folder, lora=[tmp_path / "adapter" / "pytorch_lora_weights.safetensors"])
    wanted = {name.replace(".base_layer", ""): t for name, t in model.state_dict().items() if "lora_" not in name}
    for name, tensor in got.backbone.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], atol=1e-5, rtol=1e-5, msg=name)


def test_adapters_of_its_own_are_where_the_backbone_says(wan_backbone):
    denoiser = Denoiser(DenoiserConfig(wan_backbone, lora=LoraConfig(rank=2)))
    adapted = {name.partition(".lora_")[0] for name, _ in denoiser.backbone.named_parameters() if ".lora_A" in name}
    assert len(adapted) == 2 * (4 + 4 + 2)
    assert all(name.startswith("blocks.") for name in adapted)
