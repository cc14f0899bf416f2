"""`mpgen export`: what is written is what was trained, for diffusers and for `mpgen generate`."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import generate
from safetensors.torch import load_file

from mpgen.backbones.hunyuan.released import released_card
from mpgen.checkpoints import begin_from, load_for_generation, load_released, load_weights
from mpgen.checkpoints.command import export
from mpgen.checkpoints.export import export_model
from mpgen.checkpoints.plain import to_plain
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError
from mpgen.video.clips import read_video

CPU = torch.device("cpu")


@pytest.fixture
def exported(trained, tmp_path) -> Path:
    export(trained, tmp_path / "out")
    return tmp_path / "out"


def test_a_runs_folder_means_its_last_checkpoint(trained, exported, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(trained, tmp_path / "run" / "checkpoints" / "last.ckpt")
    export(tmp_path / "run", tmp_path / "again")
    assert (tmp_path / "again" / "mpgen.safetensors").read_bytes() == (exported / "mpgen.safetensors").read_bytes()


@pytest.mark.parametrize("ema", [True, False])
def test_an_exported_model_generates_as_the_checkpoint_it_is_of(trained, tmp_path, ema):
    export(trained, tmp_path / "out", ema=ema)
    got, wanted = load_for_generation(tmp_path / "out", CPU), load_for_generation(trained, CPU, ema=ema)
    assert got.denoiser.state_dict().keys() == wanted.denoiser.state_dict().keys()
    for name, tensor in wanted.denoiser.state_dict().items():
        assert torch.equal(got.denoiser.state_dict()[name], tensor), name
    assert (got.steps, got.guidance_scale, got.fps) == (wanted.steps, wanted.guidance_scale, wanted.fps)
    assert type(got.encoders) is type(wanted.encoders)
    assert got.denoiser.layout == wanted.denoiser.layout


def test_generate_makes_the_same_video_from_either(trained, exported, tmp_path):
    videos = []
    for path, name in ((trained, "a.mp4"), (exported, "b.mp4")):
        generate(ckpt_path=path, output=tmp_path / name, scene="bounce", seconds=0.3, steps=1, device="cpu")
        videos.append(read_video(tmp_path / name))
    assert np.array_equal(*videos)


def test_the_weights_of_an_export_are_weights_to_begin_from(trained, exported, make_module):
    denoiser = Denoiser(make_module().denoiser_config)
    load_weights(denoiser, exported)
    wanted = load_for_generation(trained, CPU).denoiser.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in denoiser.state_dict().items())


def test_diffusers_loads_the_transformer_strictly_and_computes_the_same(exported, trained):
    diffusers = pytest.importorskip("diffusers")
    kind = diffusers.HunyuanVideoFramepackTransformer3DModel
    model, report = kind.from_pretrained(exported / "transformer", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    denoiser = load_for_generation(trained, CPU).denoiser
    assert denoiser.backbone.config.mlp_ratio < 4  # so that the refiner had to be widened
    text, timestep, mask = (
        torch.randn(1, 5, denoiser.backbone.config.text_embed_dim),
        torch.tensor([300.0]),
        torch.ones(1, 5),
    )
    wanted = denoiser.backbone.context_embedder(text, timestep, mask.bool())
    torch.testing.assert_close(model.context_embedder(text, timestep, mask.bool()), wanted, atol=5e-6, rtol=0)
    again = load_released(exported).backbone.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_a_large_model_is_written_in_shards_with_an_index(trained, tmp_path):
    model = load_for_generation(trained, CPU)
    export_model(model, tmp_path / "out", shard="100KB")
    folder = tmp_path / "out" / "transformer"
    places = json.loads((folder / "diffusion_pytorch_model.safetensors.index.json").read_text())["weight_map"]
    assert len({*places.values()}) > 2
    assert all(name in load_file(folder / file) for name, file in places.items())
    assert not any(name.startswith("memory.") for name in places)
    assert load_released(tmp_path / "out").backbone.config.num_layers == model.denoiser.backbone.config.num_layers


def test_one_flipped_bit_of_an_export_is_an_error_that_names_the_file(exported):
    weights = exported / "mpgen.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"mpgen\.safetensors is damaged.*sha256"):
        load_for_generation(exported, CPU)


def test_half_the_precision_is_half_the_size(trained, exported, tmp_path):
    export(trained, tmp_path / "half", dtype="bfloat16")
    whole, half = ((folder / "mpgen.safetensors").stat().st_size for folder in (exported, tmp_path / "half"))
    assert half < 0.6 * whole
    got, wanted = load_for_generation(tmp_path / "half", CPU), load_for_generation(exported, CPU)
    for name, tensor in got.denoiser.state_dict().items():
        assert torch.equal(tensor, wanted.denoiser.state_dict()[name].bfloat16().float()), name


def test_nothing_is_overwritten_and_nothing_half_written_stays(trained, exported, tmp_path, monkeypatch):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"out exists: wanted a new folder"):
        export(trained, exported)
    monkeypatch.setattr("mpgen.checkpoints.export.save_file", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(trained, tmp_path / "other")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_network_that_diffusers_has_not_is_written_for_mpgen_alone(trained, make_module, tmp_path):
    model = load_for_generation(trained, CPU)
    config = make_module().denoiser_config
    fine = replace(config, backbone=replace(config.backbone, patch_size=1), memory=None)
    card = model.card | {"denoiser": to_plain(fine)["init_args"]}
    denoiser = Denoiser(fine).requires_grad_(False)
    assert "patch_size 1" in export_model(replace(model, denoiser=denoiser, card=card), tmp_path / "fine")
    assert {path.name for path in (tmp_path / "fine").iterdir()} == {"README.md", "config.json", "mpgen.safetensors"}
    loaded = load_for_generation(tmp_path / "fine", CPU).denoiser.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in denoiser.state_dict().items())


def test_a_network_that_diffusers_has_not_is_refused(small_config):
    with pytest.raises(UserError, match="patch_size 1"):
        released_card(replace(small_config.backbone, patch_size=1))
    with pytest.raises(UserError, match=r"refiner_mlp_ratio 5\.0"):
        released_card(replace(small_config.backbone, mlp_ratio=5.0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda folder: (folder / "mpgen.safetensors").unlink(), r"holds no mpgen\.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json does not exist"),
        (lambda folder: (folder / "config.json").write_text('{"fps": 24}'), r"config\.json lacks version, denoiser"),
        (lambda folder: (folder / "mpgen.safetensors").write_bytes(b"12345678"), r"mpgen\.safetensors is damaged"),
    ],
    ids=["no weights", "no card", "half a card", "damaged"],
)
def test_an_export_that_is_not_whole_is_an_error_that_says_why(exported, change, complaint):
    change(exported)
    with pytest.raises(UserError, match=complaint) as error:
        load_for_generation(exported, CPU)
    assert "\n" not in str(error.value)


def test_without_a_memory_the_released_layout_is_all_there_is(trained, make_module, tmp_path):
    model = load_for_generation(trained, torch.device("cpu"))
    bare = replace(make_module().denoiser_config, memory=None)
    card = model.card | {"denoiser": to_plain(bare)["init_args"]}
    export_model(replace(model, denoiser=Denoiser(bare).requires_grad_(False), card=card), tmp_path / "bare")
    assert {path.name for path in (tmp_path / "bare").iterdir()} >= {"config.json", "transformer"}
    assert not (tmp_path / "bare" / "mpgen.safetensors").exists()
    loaded = load_for_generation(tmp_path / "bare", torch.device("cpu"))
    wide = replace(bare, backbone=replace(bare.backbone, refiner_mlp_ratio=4.0))  # as diffusers' class has it
    begun, names = begin_from(tmp_path / "bare", wide, seed=1)
    assert names == set(loaded.denoiser.state_dict())
    for name, tensor in loaded.denoiser.state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], tensor, rtol=0, atol=0)
