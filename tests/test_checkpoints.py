import math
import os
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.checkpoints import load_for_generation, load_weights, read_checkpoint, rebuild, to_plain
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.tiny import TinyEncoders
from mpgen.errors import UserError
from mpgen.memory import SemanticPackConfig
from mpgen.memory.structures import ConditioningAnchor, StructureA, StructureB, StructureC, ZeroAnchor
from mpgen.sections import BoundedIndex, Forward, GlobalIndex, LocalIndex

CPU = torch.device("cpu")


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- a training run's checkpoint


def test_a_trained_model_comes_back_ready_to_generate(trained, make_module):
    model = load_for_generation(trained, CPU, ema=False)
    saved = torch.load(trained, weights_only=True)
    for name, tensor in model.denoiser.state_dict().items():
        assert torch.equal(tensor, saved["state_dict"][f"denoiser.{name}"]), name
    assert not model.denoiser.training
    assert not any(p.requires_grad for p in model.denoiser.parameters())
    assert isinstance(model.encoders, TinyEncoders)
    assert (model.guidance_scale, model.height_px, model.width_px, model.fps, model.steps) == (2.0, 32, 32, 24.0, 2)
    assert model.denoiser.layout == make_module().denoiser_config.layout
    assert model.card["caveats"] == []


def test_the_averaged_weights_are_taken_unless_told_otherwise(trained):
    shadow = torch.load(trained, weights_only=True)["callbacks"]["EMA"]["shadow"]
    averaged, raw = load_for_generation(trained, CPU), load_for_generation(trained, CPU, ema=False)
    assert all(torch.equal(averaged.denoiser.state_dict()[name], tensor) for name, tensor in shadow.items())
    assert not same(averaged.denoiser, raw.denoiser)


@pytest.fixture
def altered(trained, tmp_path):
    """The trained checkpoint after `change` was called on its content."""

    def make(change) -> object:
        content = torch.load(trained, weights_only=True)
        change(content)
        torch.save(content, tmp_path / "altered.ckpt")
        return tmp_path / "altered.ckpt"

    return make


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c.pop("mpgen"), "does not say what model it holds"),
        (lambda c: c["callbacks"].pop("EMA"), "no averaged weights.*--ema false"),
        (lambda c: c.pop("state_dict"), "holds no state_dict"),
        (lambda c: c["mpgen"]["encoders"].update(fingerprint="x"), "other encoder weights"),
        (lambda c: (c["state_dict"].pop("denoiser.backbone.proj_out.bias"),
                    c["callbacks"]["EMA"]["shadow"].pop("backbone.proj_out.bias")),
         r"1 missing \(backbone\.proj_out\.bias\)"),
        (lambda c: c["mpgen"]["encoders"].update(class_path="torch.nn.Linear"), "not correspond to a subclass"),
        (lambda c: c["mpgen"]["denoiser"].update(layout={"class_path": "mpgen.sections.LocalIndex"}), "LocalIndex"),
    ],
    ids=["no card", "no average", "no weights", "other encoders", "a weight missing", "no encoders", "another layout"],
)  # fmt: skip
def test_a_checkpoint_that_is_not_whole_is_an_error_that_says_why(altered, change, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        load_for_generation(altered(change), CPU)
    assert "altered.ckpt" in str(error.value)
    assert "\n" not in str(error.value)


EVIL = "evil_package.layouts.Layout"


@pytest.mark.parametrize(
    "layout",
    [
        {"class_path": EVIL},
        EVIL,
        f'{{"class_path": "{EVIL}"}}',
        f'{{"class\\u005fpath": "{EVIL}"}}',
        {"class_path": "mpgen.sections.Forward", "init_args": {"section": [{"class_path": EVIL}]}},
        {"class_path": "evil_package.Forward"},
    ],
)
def test_what_a_checkpoint_names_is_not_imported(altered, tmp_path, monkeypatch, layout):
    """Installed somewhere on the path, and not in the working folder."""
    package = tmp_path / "site" / "evil_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(UserError, match=r"altered\.ckpt names 'evil_package\.\w+.*wanted a class of mpgen") as error:
        load_for_generation(altered(lambda c: c["mpgen"]["denoiser"].update(layout=layout)), CPU)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_a_class_in_the_working_folder_is_imported(altered, tmp_path, monkeypatch):
    (tmp_path / "own_index_here.py").write_text(
        "from mpgen.sections import LocalIndex\nclass Own(LocalIndex):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    changed = altered(lambda c: c["mpgen"]["denoiser"].update(frame_index={"class_path": "own_index_here.Own"}))
    assert type(load_for_generation(changed, CPU).denoiser.frame_index).__name__ == "Own"


# --- files that are no checkpoints


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB_FOLDER"],)


def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB_FOLDER", str(tmp_path / "ran"))
    torch.save({"state_dict": {}, "bomb": Bomb()}, tmp_path / "bomb.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps({"state_dict": {}, "bomb": Bomb()}))
    for name in ("bomb.ckpt", "plain.ckpt"):
        with pytest.raises(UserError, match=name):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02", b"\x00" * 99, "🙂 no".encode()])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"last\.ckpt") as error:
        read_checkpoint(tmp_path / "last.ckpt")
    assert "\n" not in str(error.value)


def test_a_truncated_checkpoint_is_an_error_that_names_it(trained, tmp_path):
    whole = trained.read_bytes()
    for part in (0.3, 0.9, 0.999):
        (tmp_path / "cut.ckpt").write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(UserError, match=r"cut\.ckpt"):
            read_checkpoint(tmp_path / "cut.ckpt")


def test_one_flipped_bit_is_an_error_that_names_the_file(trained, tmp_path):
    content = bytearray(trained.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"flipped\.ckpt is damaged.*checksum"):
        load_for_generation(tmp_path / "flipped.ckpt", CPU)


@pytest.mark.parametrize("content", [[1, 2], {"weights": torch.zeros(2)}, torch.zeros(3)])
def test_a_file_of_something_else_is_an_error(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="holds no state_dict"):
        load_for_generation(tmp_path / "other.ckpt", CPU)


def test_paths_that_do_not_exist_are_errors(tmp_path, make_denoiser):
    for path in (tmp_path / "none.ckpt", tmp_path / "none"):
        with pytest.raises(UserError, match="does not exist"):
            load_weights(make_denoiser(), path)
    with pytest.raises(UserError, match=r"holds no \.safetensors"):
        load_weights(make_denoiser(), tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        load_for_generation(tmp_path / "none.ckpt", CPU)


# --- released weights


@pytest.fixture
def released(make_denoiser, tmp_path):
    """A network without a memory, saved as released weights are: in two files of a folder."""
    source = make_denoiser(memory=None)
    state = list(source.backbone.state_dict().items())
    save_file(dict(state[:20]), tmp_path / "part-1.safetensors")
    save_file(dict(state[20:]), tmp_path / "part-2.safetensors")
    return source, tmp_path


def test_released_weights_give_a_memory_their_language(released, make_denoiser):
    source, folder = released
    denoiser = make_denoiser(std=0.5)
    load_weights(denoiser, folder)
    for name, tensor in source.state_dict().items():
        assert torch.equal(denoiser.state_dict()[name], tensor), name
    frames, *tiles = [side // own for side, own in zip(denoiser.memory.config.window_patch, (1, 2, 2), strict=True)]
    wanted = source.backbone.clean_x_embedder.proj.weight.repeat(1, 1, 1, *tiles) / math.prod(tiles)
    middle = denoiser.memory.window_embed.weight[:, :, frames // 2 : frames // 2 + 1]
    torch.testing.assert_close(middle, wanted)
    torch.testing.assert_close(denoiser.memory.window_embed.weight.abs().sum(), wanted.abs().sum())
    torch.testing.assert_close(denoiser.memory.window_embed.bias, source.backbone.clean_x_embedder.proj.bias)


def test_all_that_does_not_fit_is_listed_and_nothing_is_copied(released, make_denoiser, tmp_path):
    source, _ = released
    state = dict(source.backbone.state_dict())
    del state["proj_out.weight"], state["norm_out.linear.bias"]
    state["strange.name"] = torch.zeros(1)
    state["x_embedder.proj.bias"] = torch.zeros(5)
    save_file(state, tmp_path / "wrong.safetensors")
    denoiser = make_denoiser(std=0.5)
    before = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(denoiser, tmp_path / "wrong.safetensors")
    said = str(error.value)
    assert "2 missing (backbone.norm_out.linear.bias, backbone.proj_out.weight)" in said
    assert "1 unexpected (backbone.strange.name)" in said
    assert "backbone.x_embedder.proj.bias [5] instead of [32]" in said
    assert all(torch.equal(tensor, before[name]) for name, tensor in denoiser.state_dict().items())


def test_a_part_of_a_memory_is_not_taken_for_none(make_denoiser, tmp_path):
    state = make_denoiser().state_dict()
    save_file({name: t for name, t in state.items() if name != "memory.to_tokens.bias"}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"1 missing \(memory\.to_tokens\.bias\)"):
        load_weights(make_denoiser(), tmp_path / "w.safetensors")


def test_a_damaged_safetensors_file_is_an_error_that_names_it(make_denoiser, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json")
    with pytest.raises(UserError, match=r"w\.safetensors is damaged"):
        load_weights(make_denoiser(), tmp_path / "w.safetensors")


def test_weights_of_another_precision_are_converted(make_denoiser, tmp_path):
    source = make_denoiser()
    save_file({name: tensor.bfloat16() for name, tensor in source.state_dict().items()}, tmp_path / "w.safetensors")
    denoiser = make_denoiser(std=0.5)
    load_weights(denoiser, tmp_path / "w.safetensors")
    for name, tensor in denoiser.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name].bfloat16().float()), name


# --- configs as plain types


@pytest.mark.parametrize("structure", [StructureA(), StructureB(), StructureC()])
@pytest.mark.parametrize("anchor", [ConditioningAnchor(), ZeroAnchor()])
@pytest.mark.parametrize("frame_index", [LocalIndex(), GlobalIndex(), BoundedIndex(limit=5)])
def test_every_variant_survives_as_plain_types(small_config, structure, anchor, frame_index):
    semantic = replace(small_config.memory, structure=structure, anchor=anchor)
    config = replace(small_config, memory=semantic, frame_index=frame_index)
    plain = to_plain(config)["init_args"]
    assert rebuild(DenoiserConfig, plain) == config


@pytest.mark.parametrize(
    "config",
    [
        DenoiserConfig(HunyuanConfig(), SemanticPackConfig()),
        DenoiserConfig(HunyuanConfig(), memory=None, layout=Forward(5, 8, 0, 2)),
    ],
)
def test_a_config_without_a_part_survives_as_plain_types(config):
    assert rebuild(DenoiserConfig, to_plain(config)["init_args"]) == config


def test_plain_types_are_plain(small_config, tmp_path):
    torch.save(to_plain(small_config), tmp_path / "plain.pt")
    assert torch.load(tmp_path / "plain.pt", weights_only=True) == to_plain(small_config)


def test_a_rebuilt_config_builds_the_same_network(small_config):
    again = Denoiser(rebuild(DenoiserConfig, to_plain(small_config)["init_args"]))
    assert again.state_dict().keys() == Denoiser(small_config).state_dict().keys()
