"""Weights in GGUF files, written by the `gguf` package in Wan's own names."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpgen.backbones.wan.keymap import LAYERS, TABLES
from mpgen.checkpoints import gguf_files, load_released
from mpgen.denoiser import DenoiserConfig
from mpgen.errors import UserError

gguf = pytest.importorskip("gguf")


@pytest.fixture
def wan(make_denoiser, wan_backbone):
    return make_denoiser(backbone=replace(wan_backbone, text_dim=32), memory=None)


def own_name(name: str) -> str:
    """The name that Wan's authors gave to a released one."""
    number = re.search(r"(?<=blocks\.)\d+", name)
    pattern = re.sub(r"(?<=blocks\.)\d+", "{}", name)
    layer, _, kind = pattern.rpartition(".")
    for own, released in (TABLES | LAYERS).items():
        if pattern == released or layer == released:
            own = own if pattern == released else f"{own}.{kind}"
            return own.format(number[0] if number else "")
    return name


@pytest.fixture
def write(wan, tmp_path):
    """A file of the weights, matrices of blocks as `kind`; of five axes the first two are one: the format has four."""

    def made(kind):
        writer = gguf.GGUFWriter(tmp_path / "wan.gguf", "wan")
        for name, tensor in wan.backbone.state_dict().items():
            if name.startswith(wan.backbone.additions):
                continue
            numbers, own = tensor.numpy(), own_name(name)
            if tensor.ndim == 5:
                writer.add_array(f"{gguf_files.SHAPE}{own}", list(tensor.shape))
                numbers = numbers.reshape(-1, *tensor.shape[2:])
            if name.startswith("blocks") and tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
                packed = gguf.quants.quantize(numbers, kind)
                writer.add_tensor(own, packed, raw_dtype=kind)
            else:
                writer.add_tensor(own, np.ascontiguousarray(numbers))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / "wan.gguf"

    return made


@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 0.006), ("Q4_0", 0.09), ("BF16", 0.003)])
def test_blocks_of_few_bits_are_read_as_the_numbers_they_are(wan, write, kind, error):
    path = write(gguf.GGMLQuantizationType[kind])
    config = DenoiserConfig(wan.backbone.config, None, wan.layout)
    got, wanted = load_released(path, config, dtype=torch.float32).backbone, wan.backbone
    for name, tensor in wanted.state_dict().items():
        if name.startswith(wanted.additions):
            continue
        own = got.state_dict()[name]
        if name.startswith("blocks") and tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
            assert 0 < (own - tensor).norm() < error * tensor.norm()
        else:
            assert torch.equal(own, tensor), name
    torch.testing.assert_close(got.patch_short.weight, wanted.patch_embedding.weight)  # by FramePack's recipe


def test_a_file_that_is_none_or_a_package_that_is_missing_is_said_in_one_line(write, wan, tmp_path, monkeypatch):
    config = DenoiserConfig(wan.backbone.config, None, wan.layout)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(9))
    with pytest.raises(UserError, match=r"broken\.gguf is damaged or not a GGUF file"):
        load_released(tmp_path / "broken.gguf", config)
    writer = gguf.GGUFWriter(tmp_path / "whole.gguf", "wan")
    writer.add_tensor("patch_embedding.weight", np.zeros((2, 3), np.int8))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(UserError, match=r"whole\.gguf: patch_embedding\.weight is in I8, which gguf cannot read"):
        gguf_files.open_gguf(tmp_path / "whole.gguf")["patch_embedding.weight"].read()
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"needs the package gguf: wanted pip install 'mpgen\[gguf\]'"):
        load_released(tmp_path / "broken.gguf", config)
