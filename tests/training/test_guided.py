"""Guidance that is a second forward, wherever training samples."""

from dataclasses import replace

import torch

from mpgen.backbones.wan import WanConfig
from mpgen.encoders.tiny import TinyText, TinyVAE
from mpgen.training.callbacks.samples import SampleVideos
from mpgen.training.forcing import StudentForcing

WAN = WanConfig(
    TinyVAE.latent_channels, num_attention_heads=2, attention_head_dim=16, num_layers=1, ffn_dim=40,
    text_dim=TinyText.token_width, freq_dim=24, rope_dim=(4, 6, 6), text_tokens=9,
)  # fmt: skip


def test_student_forcing_and_sample_videos_are_guided_and_the_loss_is_not(
    fit, make_module, make_small_data, tmp_path, count_calls, monkeypatch
):
    config = replace(make_module().denoiser_config, backbone=WAN)
    module = make_module(
        denoiser=config, forcing=StudentForcing(1), guidance_scale=3.0, negative_prompt="blurred", negative_memory=False
    )
    data, encoded = make_small_data(), []
    encode = data.encoders.text.encode
    monkeypatch.setattr(data.encoders.text, "encode", lambda texts: encoded.append(texts) or encode(texts))
    forwards = count_calls(type(WAN.build()), "trunk")
    sampler = SampleVideos(num_videos=1, num_sections=1, steps=1)
    fit(module, data, tmp_path, 1, callbacks=[sampler], limit_val_batches=1, val_check_interval=1)

    assert encoded.count(["blurred"]) == 1
    sizes = [(len(noisy), bool(context.mask.all())) for _, noisy, _, context, _ in forwards]
    assert {len(noisy) for _, noisy, *_ in forwards} == {1, 2, 4}
    # two videos are learned from; both branches are in the sampler's forward, and one of them is without the memory
    assert {size for size, whole in sizes if not whole} == {4, 2}
    assert sampler.written
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)["mpgen"]
    assert (checkpoint["negative_prompt"], checkpoint["negative_memory"]) == ("blurred", False)
