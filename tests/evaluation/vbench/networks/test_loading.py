"""Weight files in all their published forms."""

import os
import re
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mpgen.errors import UserError
from mpgen.evaluation.vbench.networks.clip import ClipImage
from mpgen.evaluation.vbench.networks.loading import fill, read_tensors
from mpgen.evaluation.vbench.networks.raft import Raft
from mpgen.evaluation.vbench.randomise import randomise
from mpgen.optical_flow.raft import from_princeton

SMALL = {"patch_px": 56, "width": 12, "depth": 2, "num_heads": 2, "embedding": 5}


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Linear(3, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.visual(rows)


def save_as_torchscript(module: nn.Module, path: os.PathLike) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), str(path))


def small_tower() -> ClipImage:
    network = ClipImage(**SMALL).eval()
    randomise(network, 1)
    return network


def test_every_format_gives_the_same_tensors(tmp_path):
    module = Linear()
    state = module.state_dict()
    torch.save(state, tmp_path / "a.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "b.pth")
    torch.save(state, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "d.safetensors")
    save_as_torchscript(module, tmp_path / "e.pt")
    np.savez(tmp_path / "f.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    for path in sorted(tmp_path.iterdir()):
        tensors = read_tensors(path)
        assert set(tensors) == set(state), path
        for name, tensor in state.items():
            torch.testing.assert_close(tensors[name], tensor)


class Bomb:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("mpgen-must-not-exist",)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.npz"])
def test_a_damaged_file_is_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(UserError, match=re.escape(name)) as error:
        read_tensors(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_file_that_would_execute_something_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Bomb()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="more than weights"):
        read_tensors(tmp_path / "a.pth")
    assert not os.path.exists("mpgen-must-not-exist")


def test_a_file_of_other_things_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(UserError, match="something else than named weights"):
        read_tensors(tmp_path / "a.pth")


def test_names_and_shapes_must_all_fit(tmp_path):
    module = Linear()
    state = module.state_dict()
    with pytest.raises(UserError, match=r"1 missing \(visual.bias"):
        fill(module, {"visual.weight": state["visual.weight"]}, tmp_path)
    with pytest.raises(UserError, match=r"1 unexpected \(extra"):
        fill(module, {**state, "extra": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match=r"1 of another shape \(visual.bias"):
        fill(module, {**state, "visual.bias": torch.zeros(5)}, tmp_path)


def test_clip_loads_openais_names_without_the_text_tower(tmp_path):
    tower = small_tower()
    tensors = {f"visual.{name}": tensor.half() for name, tensor in tower.visual.state_dict().items()}
    torch.save({**tensors, "token_embedding.weight": torch.zeros(2, 3)}, tmp_path / "ViT-B-32.pt")
    loaded = ClipImage(**SMALL)
    loaded.load(tmp_path / "ViT-B-32.pt")
    torch.testing.assert_close(loaded.visual.proj, tower.visual.proj.half().float())


def test_clip_loads_timms_names(tmp_path):
    tower = small_tower()
    state = tower.visual.state_dict()
    timm_names = {
        "cls_token": state["class_embedding"][None, None],
        "pos_embed": state["positional_embedding"][None],
        "patch_embed.proj.weight": state["conv1.weight"],
        "head.weight": state["proj"].T.contiguous(),
    }
    for kind in ("weight", "bias"):
        timm_names |= {f"norm_pre.{kind}": state[f"ln_pre.{kind}"], f"norm.{kind}": state[f"ln_post.{kind}"]}
        for block in range(SMALL["depth"]):
            old, new = f"transformer.resblocks.{block}", f"blocks.{block}"
            timm_names |= {
                f"{new}.norm1.{kind}": state[f"{old}.ln_1.{kind}"],
                f"{new}.norm2.{kind}": state[f"{old}.ln_2.{kind}"],
                f"{new}.attn.qkv.{kind}": state[f"{old}.attn.in_proj_{kind}"],
                f"{new}.attn.proj.{kind}": state[f"{old}.attn.out_proj.{kind}"],
                f"{new}.mlp.fc1.{kind}": state[f"{old}.mlp.c_fc.{kind}"],
                f"{new}.mlp.fc2.{kind}": state[f"{old}.mlp.c_proj.{kind}"],
            }
    save_file(timm_names, tmp_path / "vit_base_patch32_clip_224.openai.safetensors")
    loaded = ClipImage(**SMALL)
    loaded.load(tmp_path / "vit_base_patch32_clip_224.openai.safetensors")
    for name, tensor in state.items():
        torch.testing.assert_close(loaded.visual.state_dict()[name], tensor)


def test_raft_loads_the_authors_names_and_torchvisions(tmp_path):
    network = Raft()
    randomise(network, 1)
    state = network.layers.state_dict()
    authors = {f"module.{_princeton(name)}": tensor for name, tensor in state.items()}
    assert set(from_princeton(authors)) == set(state)
    authors["module.cnet.layer2.0.norm3.weight"] = state["context_encoder.layer2.0.downsample.1.weight"]
    torch.save(authors, tmp_path / "raft-things.pth")
    torch.save(state, tmp_path / "raft_large_C_T_V1-22a6c225.pth")
    for path in sorted(tmp_path.iterdir()):
        loaded = Raft()
        loaded.load(path)
        for name, tensor in state.items():
            torch.testing.assert_close(loaded.layers.state_dict()[name], tensor)


def _princeton(name: str) -> str:
    """The authors' name of a tensor of torchvision's."""
    for pattern, old in (
        (r"^feature_encoder\.", "fnet."),
        (r"^context_encoder\.", "cnet."),
        (r"(net)\.convnormrelu\.0\.", r"\1.conv1."),
        (r"(net)\.convnormrelu\.1\.", r"\1.norm1."),
        (r"(net)\.conv\.", r"\1.conv2."),
        (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
        (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
        (r"motion_encoder\.conv\.0\.", "encoder.conv."),
        (r"motion_encoder\.convcorr(\d)\.0\.", r"encoder.convc\1."),
        (r"motion_encoder\.convflow(\d)\.0\.", r"encoder.convf\1."),
        (r"recurrent_block\.convgru(\d)\.conv([zrq])\.", r"gru.conv\2\1."),
        (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
        (r"^mask_predictor\.conv\.", "update_block.mask.2."),
    ):
        name = re.sub(pattern, old, name)
    return name
