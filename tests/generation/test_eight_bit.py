"""Videos of a model whose blocks are in 8 bits."""

import json

import numpy as np
import pytest
import torch
from command_line import generate

from mpgen.backbones.eight_bit import EightBitLinear
from mpgen.checkpoints import load_for_generation, open_trained, override
from mpgen.checkpoints.export import export_model
from mpgen.errors import UserError
from mpgen.video.clips import read_video


@pytest.mark.parametrize("kind", ["int8", "float8"])
def test_a_video_is_nearly_the_same_and_offloading_changes_no_pixel(trained, tmp_path, kind):
    made = {}
    for name, options in {
        "whole": {},
        "stored": {"block_weights": kind},
        "offloaded": {"block_weights": kind, "offload": True},
    }.items():
        generate(tmp_path / f"{name}.mp4", trained, scene="bounce", seconds=0.1, steps=1, device="cpu", **options)
        made[name] = read_video(tmp_path / f"{name}.mp4").astype(int)
    assert np.array_equal(made["stored"], made["offloaded"])
    assert np.abs(made["stored"] - made["whole"]).mean() < 3
    assert json.loads((tmp_path / "stored.json").read_text())["model"]["block_weights"] == kind


def test_weights_over_those_in_8_bits_are_stored_too_and_cannot_be_exported(trained, tmp_path):
    model = load_for_generation(trained, torch.device("cpu"), eight_bit="int8")
    block = model.denoiser.backbone.blocks[0]
    name, layer = next((n, m) for n, m in block.named_modules() if isinstance(m, EightBitLinear))
    before = layer.values
    layer.store(torch.zeros_like(before))
    learned = open_trained(trained)
    override(model.denoiser, learned.weights, trained)
    torch.testing.assert_close(block.get_submodule(name).values, before)
    with pytest.raises(UserError, match="weights in 8 bits cannot be exported"):
        export_model(model, tmp_path / "out")
