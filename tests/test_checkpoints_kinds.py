"""Weights as they are found: in 8 bits with and without scales, not finite, and LoRA files of many styles."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from mpgen.backbones.hunyuan.keymap import LAYERS, released_names
from mpgen.checkpoints import load_released
from mpgen.checkpoints.lora import LoraFile
from mpgen.denoiser import DenoiserConfig
from mpgen.errors import UserError

RANK = 3
OWN = ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.proj_mlp")
FUSED = ("double_blocks.0.img_attn_qkv", "single_blocks.1.linear2")


@pytest.fixture
def source(make_denoiser):
    return make_denoiser(memory=None)


@pytest.fixture
def config(source, small_config):
    return DenoiserConfig(replace(small_config.backbone, refiner_mlp_ratio=None), None, small_config.layout)


@pytest.fixture
def released(source, tmp_path, config):
    """The weights in the original names, in full precision, and what loads them."""
    state = source.backbone.state_dict()
    full = {}
    for layer in LAYERS:
        for number in range(3):
            for kind in ("weight", "bias"):
                names = released_names(f"{layer.format(number)}.{kind}")
                if names and all(name in state for name in names):
                    tensor = torch.cat([state[name] for name in names])
                    if "final_layer.adaLN" in layer:
                        tensor = torch.cat(tensor.chunk(2)[::-1])
                    full[f"{layer.format(number)}.{kind}"] = tensor.clone()
    return full


def in_eight_bits(full):
    scales, eight = {}, {}
    for name, tensor in full.items():
        if tensor.ndim == 2 and name.startswith(("double_blocks", "single_blocks")):
            scale = tensor.abs().max() / 448
            scales[name.removesuffix(".weight")] = scale
            tensor = (tensor / scale).to(torch.float8_e4m3fn)
        eight[name] = tensor.contiguous()
    return eight, scales


@pytest.mark.parametrize("spelling", ["scale_weight", "weight_scale"])
def test_8_bit_weights_are_used_with_the_scale_beside_them(released, source, config, tmp_path, spelling):
    eight, scales = in_eight_bits(released)
    beside = {f"{layer}.{spelling}": scale.reshape(1) for layer, scale in scales.items()}
    save_file(eight | beside | {"scaled_fp8": torch.zeros(0)}, tmp_path / "w.safetensors")
    got = load_released(tmp_path / "w.safetensors", config).backbone.state_dict()
    for name in (f"{layer}.weight" for layer in OWN):
        torch.testing.assert_close(got[name].float(), source.backbone.state_dict()[name], atol=0.02, rtol=0.08)


def test_8_bit_weights_with_scales_in_a_second_file_are_used_with_them(released, source, config, tmp_path):
    eight, scales = in_eight_bits(released)
    torch.save({"module": eight}, tmp_path / "w.pt")
    torch.save(scales, tmp_path / "w_map.pt")
    got = load_released(tmp_path / "w.pt", config).backbone.state_dict()
    name = f"{OWN[0]}.weight"
    torch.testing.assert_close(got[name].float(), source.backbone.state_dict()[name], atol=0.02, rtol=0.08)


@pytest.mark.parametrize("stretches", [1, 4])
def test_scales_may_be_for_rows_or_stretches_of_them(released, source, config, tmp_path, stretches):
    """As musubi-tuner writes them; beside are notes of ComfyUI."""
    eight, beside = dict(released), {}
    for name, tensor in released.items():
        if tensor.ndim == 2 and name.startswith(("double_blocks", "single_blocks")):
            parts = tensor.reshape(len(tensor), stretches, -1)
            scale = parts.abs().amax(2, keepdim=True) / 448
            eight[name] = (parts / scale).to(torch.float8_e4m3fn).reshape(tensor.shape)
            layer = name.removesuffix(".weight")
            beside[f"{layer}.scale_weight"] = scale if stretches > 1 else scale[:, 0]
            beside[f"{layer}.comfy_quant"] = torch.frombuffer(bytearray(b"{}"), dtype=torch.uint8)
    save_file({name: t.contiguous() for name, t in (eight | beside).items()}, tmp_path / "w.safetensors")
    for kind in (None, "float8"):
        backbone = load_released(tmp_path / "w.safetensors", config, eight_bit=kind).backbone
        for name in OWN:
            layer = backbone.get_submodule(name)
            got = layer.weight if kind is None else layer.values
            wanted = source.backbone.get_parameter(f"{name}.weight")
            assert (got.float() - wanted).norm() < 0.05 * wanted.norm()


def test_8_bit_weights_that_lost_their_scales_are_refused(released, config, tmp_path):
    save_file(in_eight_bits(released)[0], tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="is in 8 bits and has lost its scale"):
        load_released(tmp_path / "w.safetensors", config)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(released, config, tmp_path, number):
    released["img_in.proj.bias"][1] = number
    save_file({name: tensor.contiguous() for name, tensor in released.items()}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"x_embedder\.proj\.bias holds numbers that are not finite"):
        load_released(tmp_path / "w.safetensors", config)


def halves(layer, source, config):
    """Down and up of an adapter of `layer`, and the weights that it changes."""
    names = released_names(f"{layer}.weight") or (f"{layer}.weight",)
    weights = {name: source.backbone.state_dict()[name] for name in names}
    generator = torch.Generator().manual_seed(len(layer))
    columns, rows = next(iter(weights.values())).shape[1], sum(len(weight) for weight in weights.values())
    down, up = torch.randn(RANK, columns, generator=generator), torch.randn(rows, RANK, generator=generator)
    return down, up, weights


STYLES = {
    "diffusers": (OWN, "transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight"),
    "peft with a named adapter": (
        OWN,
        "base_model.model.{}.lora_A.style.weight",
        "base_model.model.{}.lora_B.style.weight",
    ),
    "diffusers' old one": (OWN, "transformer.{}.lora.down.weight", "transformer.{}.lora.up.weight"),
    "original names": (FUSED, "diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight"),
    "ComfyUI's dots": (
        ("double_blocks.0.img_attn.qkv", "double_blocks.0.txt_mlp.0", "single_blocks.1.linear2"),
        "diffusion_model.{}.lora_A.weight",
        "diffusion_model.{}.lora_B.weight",
    ),
}


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("style", STYLES)
def test_a_lora_of_any_style_is_added_with_its_strength(style, strength, released, source, config, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in released.items()}, tmp_path / "w.safetensors")
    layers, down_name, up_name = STYLES[style]
    tensors = {}
    for layer in layers:
        down, up, _ = halves(layer, source, config)
        tensors |= {down_name.format(layer): down, up_name.format(layer): up}
    save_file(tensors, tmp_path / "lora.safetensors")
    given = tmp_path / ("lora.safetensors" if strength == 1 else f"lora.safetensors@{strength}")
    got = load_released(tmp_path / "w.safetensors", config, [given]).backbone.state_dict()
    for layer in layers:
        down, up, weights = halves(layer, source, config)
        parts = (up @ down).split([len(weight) for weight in weights.values()])
        for (name, weight), part in zip(weights.items(), parts, strict=True):
            torch.testing.assert_close(got[name], weight + strength * part)


def test_whole_differences_of_weights_and_biases_are_added(released, source, config, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in released.items()}, tmp_path / "w.safetensors")
    bias = torch.randn(len(source.backbone.state_dict()[f"{OWN[0]}.bias"]) * 3)
    weight = torch.randn_like(source.backbone.state_dict()[f"{OWN[1]}.weight"])
    tensors = {
        "diffusion_model.double_blocks.0.img_attn.qkv.diff_b": bias,
        f"diffusion_model.{OWN[1]}.diff": weight,
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    got = load_released(tmp_path / "w.safetensors", config, [LoraFile(tmp_path / "lora.safetensors", 0.5)])
    state, before = got.backbone.state_dict(), source.backbone.state_dict()
    torch.testing.assert_close(state[f"{OWN[0]}.bias"], before[f"{OWN[0]}.bias"] + 0.5 * bias.chunk(3)[0])
    torch.testing.assert_close(state[f"{OWN[1]}.weight"], before[f"{OWN[1]}.weight"] + 0.5 * weight)


def test_pefts_scale_is_read_beside_a_file_and_in_a_folder(released, source, config, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in released.items()}, tmp_path / "w.safetensors")
    down, up, weights = halves(OWN[0], source, config)
    folder = tmp_path / "peft"
    folder.mkdir()
    names = [f"base_model.model.{OWN[0]}.lora_{half}.weight" for half in "AB"]
    save_file(dict(zip(names, (down, up), strict=True)), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"r": 3, "lora_alpha": 6}')
    for given in (folder, folder / "adapter_model.safetensors"):
        got = load_released(tmp_path / "w.safetensors", config, [given]).backbone.state_dict()
        torch.testing.assert_close(got[f"{OWN[0]}.weight"], weights[f"{OWN[0]}.weight"] + 2 * up @ down)


def test_a_pickled_lora_in_a_folder_is_read(released, source, config, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in released.items()}, tmp_path / "w.safetensors")
    down, up, weights = halves(OWN[0], source, config)
    (tmp_path / "bin").mkdir()
    names = [f"transformer.{OWN[0]}.lora_{half}.weight" for half in "AB"]
    torch.save(dict(zip(names, (down, up), strict=True)), tmp_path / "bin" / "pytorch_lora_weights.bin")
    got = load_released(tmp_path / "w.safetensors", config, [tmp_path / "bin"]).backbone.state_dict()
    torch.testing.assert_close(got[f"{OWN[0]}.weight"], weights[f"{OWN[0]}.weight"] + up @ down)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({f"transformer.{OWN[0]}.lora_B.weight": torch.full((32, RANK), float("nan"))}, "not finite"),
        ({f"transformer.{OWN[0]}.dora_scale": torch.ones(32)}, "1 unexpected"),
        ({f"transformer.{OWN[0]}.lora_B.bias": torch.ones(32)}, "1 unexpected"),
        ({f"transformer.{OWN[0]}.lora_A.other.weight": torch.ones(RANK, 32)}, "the adapters default, other"),
        ({f"transformer.{OWN[1]}.lora_A.weight": torch.ones(RANK, 32)}, "half an adapter"),
        ({f"transformer.{OWN[0]}.diff_b": torch.ones(31)}, "does not fit"),
    ],
)
def test_a_lora_that_cannot_be_used_is_refused_in_a_line(extra, said, released, source, config, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in released.items()}, tmp_path / "w.safetensors")
    down, up, _ = halves(OWN[0], source, config)
    names = [f"transformer.{OWN[0]}.lora_{half}.weight" for half in "AB"]
    save_file(dict(zip(names, (down, up), strict=True)) | extra, tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match=said):
        load_released(tmp_path / "w.safetensors", config, [tmp_path / "lora.safetensors"])
    with pytest.raises(UserError, match="is not a strength"):
        LoraFile.parse(tmp_path / "lora.safetensors@much")
