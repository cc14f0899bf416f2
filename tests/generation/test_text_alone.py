"""Videos of a text without a first frame, by models whose sections stand alone."""

import json

import numpy as np
import pytest
import torch
from command_line import generate

from mpgen import MemoryPackPipeline
from mpgen.backbones.wan import WanConfig
from mpgen.checkpoints import LoadedModel, model_card
from mpgen.checkpoints.export import export_model
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.tiny import TinyEncoders, TinyText, TinyVAE
from mpgen.errors import UserError
from mpgen.generation.denoising import Denoising
from mpgen.memory.semanticpack import SemanticPackConfig
from mpgen.sections import Forward
from mpgen.video.clips import read_video

SECTION = 5  # frames of 2 latent ones that are encoded alone


@pytest.fixture(scope="module")
def config() -> DenoiserConfig:
    backbone = WanConfig(
        TinyVAE.latent_channels, num_attention_heads=2, attention_head_dim=16, num_layers=1, ffn_dim=40,
        text_dim=TinyText.token_width, freq_dim=24, rope_dim=(4, 6, 6), text_tokens=9,
    )  # fmt: skip
    memory = SemanticPackConfig(memorize_layers=1, window_patch=(1, 2, 2), mlp_ratio=2.0)
    return DenoiserConfig(backbone, memory, Forward(2, 4, 2, 1, alone=True))


@pytest.fixture(scope="module")
def exported(config, tmp_path_factory):
    """A tiny Wan with a memory, as `mpgen export` writes it."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        denoiser = Denoiser(config).eval()
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    size = (1.0, 48, 32, 24.0)
    folder = tmp_path_factory.mktemp("wan") / "out"
    model = LoadedModel(denoiser, TinyEncoders(), *size, folder, 3, model_card(config, TinyEncoders(), *size))
    export_model(model, folder)
    return folder


def test_a_prompt_alone_becomes_a_video_of_whole_sections(exported, tmp_path):
    output = tmp_path / "out.mp4"
    generate(output, exported, prompt="a red disc", seconds=0.5, steps=1)
    assert read_video(output).shape == (3 * SECTION, 48, 32, 3)
    record = json.loads(output.with_suffix(".json").read_text())
    assert (record["context_frames"], record["num_sections"], record["prompt"]) == (0, 3, "a red disc")

    again, kept = tmp_path / "again.mp4", 2 * SECTION
    generate(again, exported, branch=output, section=3, seed=4, steps=1)
    assert np.abs(read_video(again)[:kept].astype(int) - read_video(output)[:kept]).mean() < 4
    generate(tmp_path / "whole.mp4", exported, branch=output, section=1, steps=1)
    assert np.array_equal(read_video(tmp_path / "whole.mp4"), read_video(output))


def test_a_memory_begins_anew_with_the_first_sections_still(exported, count_calls):
    pipeline = MemoryPackPipeline.from_pretrained(exported)
    seeds, updates = (count_calls(type(pipeline.model.denoiser.memory), name) for name in ("seed", "updates"))
    sections, steps = 3, Denoising(steps=1)
    frames = np.stack([*pipeline(None, "a red disc", sections * SECTION / 24, denoising=steps)])
    assert frames.shape == (sections * SECTION, 48, 32, 3)
    starts = [given[2] for given in seeds]
    assert len(starts) == 2  # of nothing, and of the first still
    assert not starts[0].any()
    remembered = [section for given in updates for section in given[2]]
    assert torch.equal(starts[1], remembered[0][:, :, :1])
    assert len(remembered) == sections


def test_a_memory_after_the_first_section_is_that_of_its_still_as_a_start_image(config, make_conditioning):
    denoiser, text = Denoiser(config).eval(), make_conditioning(4)
    text = type(text)(torch.randn(1, 4, TinyText.token_width), text.text_mask, None, None)
    section = torch.randn(1, TinyVAE.latent_channels, 2, 6, 4)
    blank = denoiser.begin(torch.zeros_like(section[:, :, :1]), text, blank=True).after(section)
    known = denoiser.begin(section[:, :, :1], text).after(section)
    torch.testing.assert_close(blank.psi.read().tokens, known.psi.read().tokens)
    assert torch.equal(blank.history.start, known.history.start)
    assert not blank.history.recent[:, :, :-2].any()  # where `known` has the start image before the section


def test_a_model_that_begins_from_an_image_says_so(trained, tmp_path):
    with pytest.raises(UserError, match="--prompt without a first frame: this model begins from an image; wanted"):
        generate(tmp_path / "out.mp4", trained, prompt="a red disc", steps=1)
    with pytest.raises(UserError, match="--prompt alone with --order f0: wanted --order f1"):
        generate(tmp_path / "out.mp4", trained, prompt="a red disc", order="f0")
    assert not (tmp_path / "out.mp4").exists()
