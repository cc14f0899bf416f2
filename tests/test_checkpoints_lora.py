"""LoRA files of every common family give the weights that the formula gives."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from mpgen.backbones.hunyuan.released import released_card
from mpgen.checkpoints import load_released
from mpgen.denoiser import DenoiserConfig
from mpgen.errors import UserError

RANK = 3
LAYERS = (
    "transformer_blocks.0.attn.to_k",
    "transformer_blocks.0.attn.add_v_proj",
    "transformer_blocks.0.attn.to_out.0",
    "transformer_blocks.0.ff.net.0.proj",
    "single_transformer_blocks.1.proj_mlp",
    "single_transformer_blocks.1.norm.linear",
    "norm_out.linear",
    "context_embedder.token_refiner.refiner_blocks.0.attn.to_q",
    "x_embedder.proj",
)


@pytest.fixture
def released(small_config, make_denoiser, tmp_path):
    """A backbone and its released folder."""
    source = make_denoiser(backbone=replace(small_config.backbone, refiner_mlp_ratio=4.0), memory=None).backbone
    folder = tmp_path / "released"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(released_card(source.config)))
    save_file(source.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return source, folder


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def adapters(source) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Down and up of every layer in `LAYERS`, in the shapes that trainers write."""
    made = {}
    for i, layer in enumerate(LAYERS):
        out, *columns = source.get_submodule(layer).weight.shape
        ones = (1,) * (len(columns) - 1)
        made[layer] = normal(RANK, *columns, seed=i), normal(out, RANK, *ones, seed=100 + i)
    return made


def assert_merged(got, source, made, scale: float) -> None:
    state = dict(source.state_dict())
    for layer, (down, up) in made.items():
        weight = state[f"{layer}.weight"]
        state[f"{layer}.weight"] = weight + scale * (up.flatten(1) @ down.flatten(1)).view_as(weight)
    for name, tensor in got.backbone.state_dict().items():
        torch.testing.assert_close(tensor, state[name], atol=2e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("prefix", ["", "transformer.", "diffusion_model.", "base_model.model."])
@pytest.mark.parametrize("adapter", ["", ".default"])
def test_names_of_diffusers_and_peft(released, tmp_path, prefix, adapter):
    source, folder = released
    made = adapters(source)
    state = {f"{prefix}{layer}.lora_A{adapter}.weight": down for layer, (down, _) in made.items()}
    state |= {f"{prefix}{layer}.lora_B{adapter}.weight": up for layer, (_, up) in made.items()}
    save_file(state, tmp_path / "lora.safetensors")
    assert_merged(load_released(folder, lora=[tmp_path / "lora.safetensors"]), source, made, 1.0)


def test_names_of_kohya_with_an_alpha(released, tmp_path):
    source, folder = released
    made, state = adapters(source), {}
    for layer, (down, up) in made.items():
        name = "lora_unet_" + layer.replace(".", "_")
        state |= {f"{name}.lora_down.weight": down.bfloat16(), f"{name}.lora_up.weight": up.bfloat16()}
        state[f"{name}.alpha"] = torch.tensor(1.5)
    save_file(state, tmp_path / "lora.safetensors")
    rounded = {layer: (down.bfloat16().float(), up.bfloat16().float()) for layer, (down, up) in made.items()}
    assert_merged(load_released(folder, lora=[tmp_path / "lora.safetensors"]), source, rounded, 1.5 / RANK)


FUSED = {
    "double_blocks.0.img_attn_qkv": [f"transformer_blocks.0.attn.to_{x}" for x in "qkv"],
    "double_blocks.0.txt_attn_qkv": [f"transformer_blocks.0.attn.add_{x}_proj" for x in "qkv"],
    "double_blocks.0.img_mlp.fc2": ["transformer_blocks.0.ff.net.2"],
    "single_blocks.1.linear1": [
        *(f"single_transformer_blocks.1.attn.to_{x}" for x in "qkv"),
        "single_transformer_blocks.1.proj_mlp",
    ],
    "single_blocks.0.linear2": ["single_transformer_blocks.0.proj_out"],
    "txt_in.individual_token_refiner.blocks.0.self_attn_qkv": [
        f"context_embedder.token_refiner.refiner_blocks.0.attn.to_{x}" for x in "qkv"
    ],
}


@pytest.mark.parametrize("family", ["kohya", "peft"])
def test_tencents_fused_layers_are_shared_out(released, tmp_path, family):
    source, folder = released
    state, made = {}, {}
    for i, (origin, layers) in enumerate(FUSED.items()):
        weights = [source.get_submodule(layer).weight for layer in layers]
        down = normal(RANK, weights[0].shape[1], seed=i)
        ups = [normal(len(weight), RANK, seed=9 * i + k) for k, weight in enumerate(weights)]
        made |= {layer: (down, up) for layer, up in zip(layers, ups, strict=True)}
        if family == "kohya":
            name = "lora_unet_" + origin.replace(".", "_")
            state |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": torch.cat(ups)}
            state[f"{name}.alpha"] = torch.tensor(6.0)
        else:
            name = f"diffusion_model.{origin}"
            state |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": torch.cat(ups)}
    save_file(state, tmp_path / "lora.safetensors")
    scale = 2.0 if family == "kohya" else 1.0
    assert_merged(load_released(folder, lora=[tmp_path / "lora.safetensors"]), source, made, scale)


def test_tencents_last_modulation_has_its_halves_swapped(released, tmp_path):
    source, folder = released
    down, up = normal(RANK, 32, seed=0), normal(64, RANK, seed=1)
    name = "final_layer.adaLN_modulation.1"
    save_file({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, tmp_path / "lora.safetensors")
    made = {"norm_out.linear": (down, torch.cat([up[32:], up[:32]]))}
    assert_merged(load_released(folder, lora=[tmp_path / "lora.safetensors"]), source, made, 1.0)


def test_several_files_add_up(released, tmp_path):
    source, folder = released
    made = adapters(source)
    files = []
    for i, (layer, (down, up)) in enumerate(made.items()):
        files.append(tmp_path / f"{i}.safetensors")
        save_file({f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, files[-1])
    assert_merged(load_released(folder, lora=files), source, made, 1.0)
    twice = {layer: (2 * down, up) for layer, (down, up) in made.items()}
    assert_merged(load_released(folder, lora=files + files), source, twice, 1.0)


def test_a_folder_of_peft_says_its_scale_beside(released, tmp_path):
    source, folder = released
    down, up = adapters(source)[LAYERS[0]]
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({f"{LAYERS[0]}.lora_A.weight": down, f"{LAYERS[0]}.lora_B.weight": up}, adapter / "a.safetensors")
    settings = {"r": RANK, "lora_alpha": 12, "use_dora": False, "alpha_pattern": {}}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    assert_merged(load_released(folder, lora=[adapter]), source, {LAYERS[0]: (down, up)}, 4.0)
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"use_dora": True}))
    with pytest.raises(UserError, match="use_dora is True"):
        load_released(folder, lora=[adapter])


def test_diffusers_says_the_scale_in_the_files_header(released, tmp_path):
    source, folder = released
    down, up = adapters(source)[LAYERS[0]]
    header = {"lora_adapter_metadata": json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 6})}
    state = {f"transformer.{LAYERS[0]}.lora_A.weight": down, f"transformer.{LAYERS[0]}.lora_B.weight": up}
    save_file(state, tmp_path / "lora.safetensors", metadata=header)
    assert_merged(
        load_released(folder, lora=[tmp_path / "lora.safetensors"]), source, {LAYERS[0]: (down, up)}, 6 / RANK
    )


def test_a_file_that_diffusers_and_peft_wrote_gives_what_they_compute(released, tmp_path):
    pytest.importorskip("peft")
    from diffusers import HunyuanVideoFramepackTransformer3DModel as Released
    from peft import LoraConfig

    source, folder = released
    model = Released.from_pretrained(folder)
    torch.manual_seed(0)
    model.add_adapter(LoraConfig(r=4, lora_alpha=10, target_modules=["to_q", "proj_mlp"], init_lora_weights=False))
    model.save_lora_adapter(tmp_path / "adapter")
    model.fuse_lora()
    got = load_released(folder, lora=[tmp_path / "adapter" / "pytorch_lora_weights.safetensors"])
    wanted = {name.replace(".base_layer", ""): t for name, t in model.state_dict().items() if "lora_" not in name}
    for name, tensor in got.backbone.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], atol=1e-5, rtol=1e-5, msg=name)
    assert not torch.equal(wanted[f"{LAYERS[0][:-1]}q.weight"], source.state_dict()[f"{LAYERS[0][:-1]}q.weight"])


GOOD = f"{LAYERS[0]}.lora_A.weight", f"{LAYERS[0]}.lora_B.weight"
FAULTS = {
    "nothing": ({}, "it is empty"),
    "no such layer": ({"blocks.0.attn.lora_A.weight": (3, 32)}, r"1 unexpected \(blocks.0.attn.lora_A.weight\)"),
    "text encoder": ({"lora_te_layers_0.lora_down.weight": (3, 32)}, r"unexpected \(lora_te_layers_0"),
    "a bias": ({f"{LAYERS[0]}.lora_B.bias": (32,)}, r"unexpected \(transformer_blocks.0.attn.to_k.lora_B.bias\)"),
    "layer 7": ({"transformer_blocks.7.attn.to_q.lora_A.weight": (3, 32)}, "1 unexpected"),
    "half": ({GOOD[0]: (3, 32)}, f"half an adapter of {LAYERS[0]}"),
    "other rows": ({GOOD[0]: (3, 32), GOOD[1]: (40, 3)}, "wanted 32 rows and 32 columns"),
    "other columns": ({GOOD[0]: (3, 31), GOOD[1]: (32, 3)}, "wanted 32 rows and 32 columns"),
    "other ranks": ({GOOD[0]: (3, 32), GOOD[1]: (32, 4)}, "do not fit"),
    "no rank": ({GOOD[0]: (0, 32), GOOD[1]: (32, 0)}, "do not fit"),
    "scalars": ({GOOD[0]: (), GOOD[1]: ()}, "do not fit"),
    "dora": ({f"{LAYERS[0]}.lora_magnitude_vector": (32,)}, "DoRA, LoHa and LoKr are no plain LoRA"),
    "loha": ({"lora_unet_transformer_blocks_0_attn_to_k.hada_w1_a": (32, 3)}, "are no plain LoRA"),
    "twice": ({GOOD[0]: (3, 32), GOOD[1]: (32, 3), f"transformer.{GOOD[0]}": (3, 32)}, "a layer twice"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lora_that_does_not_fit_is_refused_in_one_line(released, tmp_path, fault):
    shapes, complaint = FAULTS[fault]
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match=complaint) as error:
        load_released(released[1], lora=[tmp_path / "lora.safetensors"])
    assert "lora.safetensors" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prefix", ["unet.", "dit.", "module.", "transformer._orig_mod."])
def test_names_that_wrappers_leave(released, tmp_path, prefix):
    source, folder = released
    down, up = adapters(source)[LAYERS[0]]
    save_file({f"{prefix}{GOOD[0]}": down, f"{prefix}{GOOD[1]}": up}, tmp_path / "lora.safetensors")
    got = load_released(folder, lora=[tmp_path / "lora.safetensors"])
    assert_merged(got, source, {LAYERS[0]: (down, up)}, 1.0)


@pytest.mark.parametrize("alpha", [torch.tensor(6), torch.tensor([6], dtype=torch.int32), torch.tensor([6.0]).half()])
def test_alpha_may_be_a_whole_number(released, tmp_path, alpha):
    source, folder = released
    down, up = adapters(source)[LAYERS[0]]
    name = "lora_unet_" + LAYERS[0].replace(".", "_")
    state = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": alpha}
    save_file(state, tmp_path / "lora.safetensors")
    got = load_released(folder, lora=[tmp_path / "lora.safetensors"])
    assert_merged(got, source, {LAYERS[0]: (down, up)}, 6 / RANK)


SCALES = {
    "{": "damaged or no JSON object",
    "[1]": "damaged or no JSON object",
    '{"transformer.r": 0, "transformer.lora_alpha": 6}': "give no scale",
    '{"transformer.r": null, "transformer.lora_alpha": "x"}': "give no scale",
    '{"transformer.r": 3, "transformer.lora_alpha": NaN}': "give no scale",
}


@pytest.mark.parametrize("header", SCALES)
def test_a_header_that_gives_no_scale_is_refused(released, tmp_path, header):
    state = {name: torch.zeros(shape) for name, shape in zip(GOOD, ((RANK, 32), (32, RANK)), strict=True)}
    save_file(state, tmp_path / "lora.safetensors", metadata={"lora_adapter_metadata": header})
    with pytest.raises(UserError, match=SCALES[header]):
        load_released(released[1], lora=[tmp_path / "lora.safetensors"])


@pytest.mark.parametrize("strength", ["nan", "inf", "1e400", "0,8", ""])
def test_a_strength_is_a_finite_number(released, tmp_path, strength):
    with pytest.raises(UserError, match="is not a strength"):
        load_released(released[1], lora=[tmp_path / f"lora.safetensors@{strength}"])


def test_whole_numbers_without_a_scale_are_no_weights(released, tmp_path):
    source, _ = released
    state = dict(source.state_dict())
    state[f"{LAYERS[0]}.weight"] = (10 * state[f"{LAYERS[0]}.weight"]).to(torch.int8)
    torch.save(state, tmp_path / "weights.pt")
    config = DenoiserConfig(backbone=source.config, memory=None)
    with pytest.raises(UserError, match=r"to_k.weight is in int8 and has no scale"):
        load_released(tmp_path / "weights.pt", config)
