"""Released weights: diffusers' folders, Tencent's names, and all that can be wrong with them."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.hunyuan.keymap import LAYERS, locate, released_names
from mpgen.backbones.hunyuan.model import Hunyuan
from mpgen.backbones.hunyuan.released import released_card
from mpgen.checkpoints import load_released, load_weights
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def config(small_config) -> DenoiserConfig:
    """Sizes that a released folder can have: the text refiner's ratio is always 4."""
    return replace(small_config, backbone=replace(small_config.backbone, refiner_mlp_ratio=4.0))


@pytest.fixture
def source(config, make_denoiser) -> Denoiser:
    return make_denoiser(backbone=config.backbone, memory=None)


@pytest.fixture
def folder(source, tmp_path) -> Path:
    """A released folder with one file."""
    (tmp_path / "config.json").write_text(
        json.dumps(released_card(source.backbone.config) | {"_diffusers_version": "0.33"})
    )
    save_file(source.backbone.state_dict(), tmp_path / WEIGHTS)
    return tmp_path


def shard(folder: Path, parts: int) -> list[str]:
    """Cuts the one file of a folder into several with an index."""
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = {}
    for i, name in enumerate(state):
        places[name] = f"diffusion_pytorch_model-{i * parts // len(state) + 1:05}-of-{parts:05}.safetensors"
    files = sorted({*places.values()})
    for file in files:
        save_file({name: state[name] for name in places if places[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return files


def assert_same_weights(got: torch.nn.Module, wanted: torch.nn.Module, exactly: bool = True) -> None:
    got, wanted = got.state_dict(), wanted.state_dict()
    for name, tensor in wanted.items():
        assert torch.equal(got[name], tensor) if exactly else torch.allclose(got[name], tensor, atol=1e-6), name


# --- diffusers' folders


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("of_pipeline", [False, True])
def test_a_released_folder_comes_back_whole(folder, source, small_config, tmp_path_factory, parts, of_pipeline):
    if parts > 1:
        shard(folder, parts)
    path = folder
    if of_pipeline:
        path = tmp_path_factory.mktemp("pipeline")
        folder.rename(path / "transformer")
    again = Denoiser(replace(small_config, backbone=source.backbone.config, memory=None))
    load_weights(again, path)
    assert_same_weights(again.backbone, source.backbone)
    denoiser = load_released(path)
    assert denoiser.backbone.state_dict().keys() == source.backbone.state_dict().keys()
    assert_same_weights(denoiser.backbone, source.backbone)
    assert denoiser.backbone.config == source.backbone.config
    assert denoiser.memory is None
    assert not denoiser.training
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())


def test_a_memory_beside_released_weights_begins_in_their_language(folder, config, source):
    denoiser = load_released(folder, replace(config, backbone=HunyuanConfig()))  # the sizes are those of the folder
    assert_same_weights(denoiser.backbone, source.backbone)
    frames, *tiles = [side // own for side, own in zip(denoiser.memory.config.window_patch, (1, 2, 2), strict=True)]
    wanted = source.backbone.clean_x_embedder.proj.weight.repeat(1, 1, 1, *tiles) / math.prod(tiles)
    middle = denoiser.memory.window_embed.weight[:, :, frames // 2 : frames // 2 + 1]
    torch.testing.assert_close(middle, wanted)
    torch.testing.assert_close(denoiser.memory.window_embed.weight.abs().sum(), wanted.abs().sum())
    torch.testing.assert_close(denoiser.memory.window_embed.bias, source.backbone.clean_x_embedder.proj.bias)
    again = load_released(folder, config)
    assert_same_weights(again, denoiser)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float64, torch.float32])
@pytest.mark.parametrize("asked", [None, torch.float32, torch.bfloat16])
def test_weights_of_any_precision_are_loaded_in_theirs_or_the_one_asked_for(folder, source, stored, asked):
    state = {name: tensor.to(stored) for name, tensor in source.backbone.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    denoiser = load_released(folder, dtype=asked)
    for name, tensor in denoiser.backbone.state_dict().items():
        assert torch.equal(tensor, state[name].to(asked or stored)), name


def test_weights_of_mixed_precision_become_the_widest(folder, source):
    state = {
        name: t.to(torch.float32 if "norm" in name else torch.bfloat16)
        for name, t in source.backbone.state_dict().items()
    }
    save_file(state, folder / WEIGHTS)
    assert {tensor.dtype for tensor in load_released(folder).state_dict().values()} == {torch.float32}


def test_weights_of_8_bits_compute_in_16(folder, source):
    state = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in source.backbone.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    denoiser = load_released(folder)
    for name, tensor in denoiser.backbone.state_dict().items():
        assert torch.equal(tensor, state[name].to(torch.bfloat16)), name


# --- plain HunyuanVideo and Tencent's names


def without_framepack(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t for n, t in state.items() if not n.startswith(("clean_x_embedder.", "image_projection."))}


def tencent(backbone: Hunyuan) -> dict[str, torch.Tensor]:
    """The state under Tencent's names: rows fused again, the last modulation's halves swapped back."""
    state, fused = without_framepack(backbone.state_dict()), {}
    for layer in LAYERS:
        for number in range(9):
            for kind in ("weight", "bias"):
                names = released_names(f"{layer.format(number)}.{kind}")
                if all(name in state for name in names):
                    fused[f"{layer.format(number)}.{kind}"] = torch.cat([state[name] for name in names])
    for kind in ("weight", "bias"):
        scale, shift = state[f"norm_out.linear.{kind}"].chunk(2)
        fused[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    return fused


def test_every_released_name_of_hunyuan_is_in_tencents_table_once():
    with torch.device("meta"):
        state = without_framepack(Hunyuan(HunyuanConfig()).state_dict())
    num_rows = {name: tensor.shape[0] for name, tensor in state.items()}
    found = []
    for layer in LAYERS:
        for number in range(40 if "{}" in layer else 1):
            for kind in ("weight", "bias"):
                found += locate(f"{layer.format(number)}.{kind}", num_rows)
    assert sorted(found) == sorted(state)


def test_a_name_of_nobody_is_no_row_of_the_table():
    assert released_names("double_blocks.0.img_attn_qkv.scale_weight") == ()
    assert released_names("double_blocks.0.img_attn") == ()
    assert locate("double_blocks.7.img_attn_qkv.weight", {"proj_out.weight": 3}) == {}


def test_diffusers_reads_tencents_names_in_the_same_way(source):
    convert = pytest.importorskip("diffusers.loaders.single_file_utils").convert_hunyuan_video_transformer_to_diffusers
    # Its cut of the single blocks' linear1 is written for the released width alone.
    got = convert({name: t for name, t in tencent(source.backbone).items() if not name.startswith("single_blocks")})
    state = source.backbone.state_dict()
    assert got.keys() == {n for n in without_framepack(state) if not n.startswith("single_transformer_blocks")}
    for name, tensor in got.items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("layout", ["safetensors", "pickled", "module in a folder"])
def test_tencents_checkpoint_gives_the_released_weights(source, config, tmp_path, layout):
    state = tencent(source.backbone)
    assert state["single_blocks.0.linear1.weight"].shape == (3 * 32 + 64, 32)
    path = tmp_path / ("w.safetensors" if layout == "safetensors" else "w.pt")
    if layout == "safetensors":
        save_file(state, path)
    else:
        torch.save({"module": state} if "module" in layout else state, path)
    denoiser = load_released(tmp_path if "folder" in layout else path, config)
    wanted = without_framepack(source.backbone.state_dict())
    got = denoiser.backbone.state_dict()
    for name, tensor in wanted.items():
        assert torch.equal(got[name], tensor), name


def test_plain_hunyuan_gets_history_embeddings_by_framepacks_recipe(source, config, folder, make_conditioning, latents):
    save_file(without_framepack(source.backbone.state_dict()), folder / WEIGHTS)
    described = json.loads((folder / "config.json").read_text()) | {"_class_name": "HunyuanVideoTransformer3DModel"}
    described = {key: value for key, value in described.items() if not key.startswith(("has_", "image_proj"))}
    described["image_proj_dim"] = 5
    (folder / "config.json").write_text(json.dumps(described))
    denoiser = load_released(folder, config)
    weight = source.backbone.x_embedder.proj.weight
    embed = denoiser.backbone.clean_x_embedder
    torch.testing.assert_close(embed.proj.weight, weight)
    assert torch.equal(embed.proj_2x.weight, weight.repeat(1, 1, 2, 2, 2) / 8)
    assert torch.equal(embed.proj_4x.weight, weight.repeat(1, 1, 4, 4, 4) / 64)
    assert all(
        torch.equal(p.bias, source.backbone.x_embedder.proj.bias) for p in (embed.proj, embed.proj_2x, embed.proj_4x)
    )
    assert not denoiser.backbone.image_projection(torch.randn(1, 4, 5)).any()
    torch.testing.assert_close(denoiser.memory.window_embed.bias, embed.proj.bias)

    trained = Denoiser(config)  # the same into a network that is there already, as `init_from` does
    load_weights(trained, folder)
    for name, tensor in trained.state_dict().items():
        if not name.startswith(("memory.", "backbone.image_projection.up.")):
            assert torch.equal(tensor, denoiser.state_dict()[name]), name


def test_half_of_framepacks_layers_are_missing_not_declared_new(source, folder):
    state = {name: t for name, t in source.backbone.state_dict().items() if not name.startswith("clean_x_embedder.")}
    save_file(state, folder / WEIGHTS)
    with pytest.raises(UserError, match=r"6 missing \(backbone\.clean_x_embedder"):
        load_released(folder)


def test_tencents_tensors_of_another_size_are_errors(source, config, tmp_path):
    state = tencent(source.backbone)
    state["double_blocks.0.img_attn_qkv.weight"] = torch.zeros(90, 32)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"img_attn_qkv.weight has the shape \[90, 32\]: wanted 96 rows"):
        load_released(tmp_path / "w.safetensors", config)


# --- what can be wrong


def edit(**changes: object):
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def rewrite(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def cut(fraction: float):
    def change(folder: Path) -> None:
        whole = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(whole[: int(fraction * len(whole))])

    return change


def lose_shard(folder: Path) -> None:
    (folder / shard(folder, 3)[1]).unlink()


def lose_shard_and_index(folder: Path) -> None:
    lose_shard(folder)
    (folder / INDEX).unlink()


def lie_in_index(folder: Path) -> None:
    first, *_, last = shard(folder, 3)
    places = json.loads((folder / INDEX).read_text())
    places["weight_map"] = {name: last if file == first else file for name, file in places["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(places))


FAULTS = {
    "shard missing": (lose_shard, r"lacks diffusion_pytorch_model-00002-of-00003.safetensors of its 3 shards"),
    "shard missing, no index": (lose_shard_and_index, r"holds 2 of 3 shards"),
    "wrong index": (lie_in_index, r"does not hold \S+, which .*index.json places there"),
    "empty index": (rewrite(INDEX, b"{}"), r"holds no weight_map"),
    "truncated in the header": (cut(0.001), r"damaged or not a safetensors file"),
    "truncated": (cut(0.7), r"damaged or not a safetensors file"),
    "a byte short": (cut(0.99999), r"damaged or not a safetensors file"),
    "empty file": (rewrite(WEIGHTS, b""), r"damaged or not a safetensors file"),
    "other model": (
        edit(_class_name="CogVideoXTransformer3DModel"),
        r"config.json is of a CogVideoXTransformer3DModel: wanted one",
    ),
    "no model": (edit(_class_name=None), r"config.json is of a None"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"config.json does not exist"),
    "damaged config": (rewrite("config.json", b'{"a": '), r"config.json is damaged or not JSON"),
    "list for a config": (rewrite("config.json", b"[1]"), r"config.json holds no keys"),
    "unknown behaviour": (edit(qk_norm="layer_norm"), r"qk_norm is 'layer_norm', wanted 'rms_norm'"),
    "quantised": (edit(quantization_config={"load_in_8bit": True}), r"quantization_config is"),
    "other outputs": (edit(out_channels=8), r"out_channels is 8, wanted 3"),
    "without history": (edit(has_clean_x_embedder=False), r"has_clean_x_embedder is False, wanted True"),
    "size is text": (edit(num_layers="many"), r"num_layers is 'many', wanted something like 20"),
    "heads that do not add up": (edit(rope_axes_dim=[4, 6, 8]), r"rope_axes_dim .*wanted three even numbers"),
    "more layers than weights": (
        edit(num_layers=2),
        r"does not fit the model: 32 missing \(backbone\.transformer_blocks.1",
    ),
    "another width": (edit(text_embed_dim=11), r"of another shape .*instead of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(folder, fault):
    change, complaint = FAULTS[fault]
    change(folder)
    with pytest.raises(UserError, match=complaint) as error:
        load_released(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB_FOLDER"],)


@pytest.mark.parametrize("name", ["w.pt", "mp_rank_00_model_states.pt", "pytorch_model.bin"])
def test_code_in_pickled_weights_is_refused_and_does_not_run(config, tmp_path, monkeypatch, name):
    monkeypatch.setenv("BOMB_FOLDER", str(tmp_path / "ran"))
    torch.save({"module": {"img_in.proj.weight": Bomb()}}, tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UserError, match=r"is damaged, or holds more than weights") as error:
            load_released(path, config)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


MEASURE = """
import sys
from pathlib import Path
import torch
from mpgen.checkpoints import load_released

def resident(line):  # not getrusage, whose peak is that of the process that started this one, if larger
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) * 1024

small, large, dtype = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
load_released(small)
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
denoiser = load_released(large, dtype=None if dtype == "None" else getattr(torch, dtype))
size = sum(p.numel() * p.element_size() for p in denoiser.parameters())
print((resident("VmHWM") - before) / size, size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak")
@pytest.mark.parametrize(("stored", "asked"), [(torch.float32, "None"), (torch.bfloat16, "None"),
                                               (torch.bfloat16, "float32"), (torch.float32, "bfloat16")])  # fmt: skip
def test_loading_needs_little_more_memory_than_the_model(folder, tmp_path_factory, stored, asked):
    large = tmp_path_factory.mktemp("large")
    sizes = HunyuanConfig(4, 6, 64, 6, 12, 1, text_embed_dim=64, image_proj_dim=64, rope_axes_dim=(16, 24, 24))
    state = Hunyuan(replace(sizes, refiner_mlp_ratio=4.0)).to(stored).state_dict()
    (large / "config.json").write_text(json.dumps(released_card(replace(sizes, refiner_mlp_ratio=4.0))))
    save_file(state, large / WEIGHTS)
    shard(large, 2)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, folder, large, asked],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert re.match(r"[\d.]+ \d+", done.stdout), done.stderr
    ratio, size = (float(part) for part in done.stdout.split())
    assert size > 50e6
    assert 0.9 < ratio < 1.15
