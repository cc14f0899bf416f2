"""The real encoders where they are used: through the cache into a training run, and out of its checkpoint again."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpgen.checkpoints import load_for_generation
from mpgen.data.datamodule import VideoDataModule
from mpgen.encoders.hunyuan import HunyuanEncoders
from mpgen.errors import UserError
from mpgen.training import cli

CONFIGS = Path(__file__).parents[2] / "configs"


def test_a_checkpoint_finds_the_encoders_that_it_was_trained_with(
    released_folder, small_world, make_module, fit, tmp_path
):
    encoders = HunyuanEncoders(released_folder, "cpu", "float32", "float32")
    config = make_module().denoiser_config
    backbone = replace(config.backbone, in_channels=5, text_embed_dim=24, pooled_projection_dim=18, image_proj_dim=20)
    data = VideoDataModule(
        small_world / "manifest.csv",
        tmp_path / "cache",
        encoders,
        height_px=32,
        width_px=32,
        section_latent_frames=2,
        max_sections=2,
        batch_size=2,
    )
    fit(make_module(denoiser=replace(config, backbone=backbone)), data, tmp_path, 1)
    parts = (encoders.vae.network, encoders.text.llama, encoders.text.clip, encoders.image.siglip)
    assert not any(part.loaded for part in parts)  # given back before training
    model = load_for_generation(tmp_path / "last.ckpt", torch.device("cpu"))
    assert model.encoders.init_args == encoders.init_args
    assert model.encoders.fingerprint == encoders.fingerprint


@pytest.mark.parametrize("name", ["stage1_memorypack", "stage1_memory_only", "df_stage2"])
def test_a_run_without_the_released_encoders_says_so_before_it_starts(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    options = [f"--config={CONFIGS / name}.yaml", f"--model.init_from={tmp_path}", "--trainer.accelerator=cpu"]
    monkeypatch.setattr(sys, "argv", ["mpgen", "fit", *options])
    with pytest.raises(UserError) as caught:
        cli.make_cli()
    said = str(caught.value)
    assert "data/mira_sekai/manifest.csv does not exist" in said  # all that is missing, at once
    assert "weights/HunyuanVideo/vae/config.json is missing: wanted the folder vae of the released" in said
    assert "hunyuanvideo-community/HunyuanVideo" in said
    assert "\n" not in said
