"""Section by section as `HunyuanVideoFramepackPipeline` of diffusers does it, with random weights and tiny parts."""

import math
import sys
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.hunyuan_vae import HunyuanVAE, Tiling
from mpgen.encoders.released import ReleasedFolder
from mpgen.flow import shift_for_tokens, sigma_schedule
from mpgen.generation import rollout as rollout_module
from mpgen.generation.decoding import stream_clips
from mpgen.generation.rollout import Sampling, rollout
from mpgen.past import Past
from mpgen.sampling import euler
from mpgen.sections import ORDERS

pytest.importorskip("diffusers")

BACKBONE = HunyuanConfig(
    in_channels=4,
    num_attention_heads=2,
    attention_head_dim=16,
    num_layers=1,
    num_single_layers=2,
    num_refiner_layers=1,
    text_embed_dim=10,
    pooled_projection_dim=7,
    image_proj_dim=12,
    rope_axes_dim=(4, 6, 6),
)
HEIGHT_PX, WIDTH_PX, STEPS, GUIDANCE = 48, 80, 2, 6.0
TOKENS = 9 * 3 * 5
SAMPLING_TYPES = {"f1": "vanilla", "f0": "inverted_anti_drifting"}


@dataclass(frozen=True)
class Released:
    """What the pipeline did: the arguments of every call of its transformer, and the whole video, latents or frames."""

    calls: list[dict[str, torch.Tensor]]
    made: torch.Tensor


@pytest.fixture(scope="module")
def pipeline():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import (
            AutoencoderKLHunyuanVideo,
            FlowMatchEulerDiscreteScheduler,
            HunyuanVideoFramepackPipeline,
            HunyuanVideoFramepackTransformer3DModel,
        )
        from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

        torch.manual_seed(0)
        transformer = HunyuanVideoFramepackTransformer3DModel(
            in_channels=BACKBONE.in_channels, out_channels=BACKBONE.in_channels,
            num_attention_heads=BACKBONE.num_attention_heads, attention_head_dim=BACKBONE.attention_head_dim,
            num_layers=BACKBONE.num_layers, num_single_layers=BACKBONE.num_single_layers,
            num_refiner_layers=BACKBONE.num_refiner_layers, text_embed_dim=BACKBONE.text_embed_dim,
            pooled_projection_dim=BACKBONE.pooled_projection_dim, image_proj_dim=BACKBONE.image_proj_dim,
            rope_axes_dim=BACKBONE.rope_axes_dim, has_image_proj=True, has_clean_x_embedder=True,
        )  # fmt: skip
        with torch.no_grad():
            for parameter in transformer.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        vae = AutoencoderKLHunyuanVideo(
            latent_channels=BACKBONE.in_channels, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
        )
        with torch.no_grad():
            vae.decoder.conv_out.conv.weight.mul_(0.2)  # so that no frame is clipped before frames are faded
        vision = SiglipVisionConfig(
            hidden_size=BACKBONE.image_proj_dim, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            image_size=28, patch_size=14,
        )  # fmt: skip
        made = HunyuanVideoFramepackPipeline(
            text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
            transformer=transformer.eval(), vae=vae.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            image_encoder=SiglipVisionModel(vision).eval(),
            feature_extractor=SiglipImageProcessor(size={"height": 28, "width": 28}),
        )  # fmt: skip
        made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def run_released(pipeline, monkeypatch):
    """The pipeline on so many sections; diffusers' own count follows from the frames, 33 a section."""

    def run(
        order: str, num_sections: int, start: torch.Tensor, end: torch.Tensor | None, output_type: str = "latent"
    ) -> Released:
        calls, forward = [], pipeline.transformer.forward

        def recorded(**given):
            calls.append({k: v.clone() for k, v in given.items() if isinstance(v, torch.Tensor)})
            return forward(**given)

        monkeypatch.setattr(pipeline.transformer, "forward", recorded)
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8))
        generator = torch.Generator().manual_seed(1)
        stills = iter([start, end])
        monkeypatch.setattr(pipeline, "prepare_image_latents", lambda image, **given: next(stills))
        options = {} if end is None else {"last_image": picture}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = pipeline(
                image=picture, prompt_embeds=torch.randn(1, 6, 10, generator=generator),
                pooled_prompt_embeds=torch.randn(1, 7, generator=generator),
                prompt_attention_mask=torch.tensor([[1, 1, 1, 1, 0, 0]]), height=HEIGHT_PX, width=WIDTH_PX,
                num_frames=33 * num_sections, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
                generator=generator, output_type=output_type, return_dict=False,
                sampling_type=SAMPLING_TYPES[order], **options,
            )[0][-1]  # fmt: skip
        return Released(calls, made)

    return run


@pytest.fixture
def ours(pipeline):
    denoiser = Denoiser(DenoiserConfig(replace(BACKBONE, refiner_mlp_ratio=4.0), None))
    denoiser.backbone.load_state_dict(pipeline.transformer.state_dict())
    return denoiser.eval().requires_grad_(False)


@pytest.fixture
def still():
    return lambda seed: torch.randn(1, 4, 1, 6, 10, generator=torch.Generator().manual_seed(seed))


def conditioning_of(call: dict[str, torch.Tensor]) -> Conditioning:
    text, mask = call["encoder_hidden_states"], call["encoder_attention_mask"].bool()
    return Conditioning(text, mask, call["pooled_projections"], call["image_embeds"])


CASES = [("f1", 1, False), ("f1", 2, False), ("f1", 4, False), ("f0", 1, False), ("f0", 3, False), ("f0", 3, True)]
CASES += [("f0", 4, False), ("f0", 5, False), ("f0", 6, True)]


@pytest.mark.parametrize(("order", "num_sections", "with_end"), CASES)
def test_calls_and_latents_are_those_of_the_released_pipeline(
    run_released, ours, still, monkeypatch, order, num_sections, with_end
):
    start, end = still(2), still(3) if with_end else None
    released = run_released(order, num_sections, start, end)
    assert len(released.calls) == num_sections * STEPS
    firsts = released.calls[::STEPS]
    monkeypatch.setattr(rollout_module, "_noise", lambda shape, seed, number: firsts[number]["hidden_states"])
    conditioning = conditioning_of(firsts[0])
    seen, pack = [], Past.pack
    monkeypatch.setattr(Past, "pack", lambda past, *rest: seen.append(past.history) or pack(past, *rest))
    layout = ORDERS[order].like(ours.layout).for_video(num_sections)
    sampling = Sampling(euler, STEPS, shift_for_tokens(TOKENS), GUIDANCE, 0)
    sections = list(rollout(ours, start, conditioning, num_sections, sampling, layout=layout, end=end))

    assert len(seen) == num_sections
    for history, call in zip(seen, firsts, strict=True):
        indices = ours.frame_index.indices(history.layout, history.numbers[0])
        assert list(indices.section) == call["indices_latents"].tolist()
        assert list(indices.start + indices.history_1x) == call["indices_latents_clean"].tolist()
        assert list(indices.history_2x) == call["indices_latents_history_2x"].tolist()
        assert list(indices.history_4x) == call["indices_latents_history_4x"].tolist()
        levels = history.layout.levels
        parts = history.window().split([history.layout.size(level) for level in levels], 2)
        part = dict(zip(levels, parts, strict=True))
        for mine, theirs in (
            (torch.cat([history.start, part["history_1x"]], 2), call["latents_clean"]),
            (part["history_2x"], call["latents_history_2x"]),
            (part["history_4x"], call["latents_history_4x"]),
        ):
            assert torch.equal(mine == 0, theirs == 0)
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)

    whole = torch.cat([start, *sections[:: layout.direction]], 2)
    assert whole.shape == released.made.shape
    difference = (whole - released.made).abs().max().item()
    assert difference <= 1e-4
    assert whole.std() > 0.1


@pytest.mark.parametrize("order", ["f1", "f0"])
def test_the_noise_levels_of_every_call_are_those_of_the_released_pipeline(run_released, still, order):
    calls = run_released(order, 2, still(2), None).calls
    got = torch.stack([call["timestep"] for call in calls]).double().flatten() / 1000
    wanted = sigma_schedule(STEPS, shift_for_tokens(TOKENS))[:-1].double().repeat(2)
    torch.testing.assert_close(got, wanted, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("steps", "height", "width"), [(25, 60, 104), (50, 32, 32), (5, 16, 16), (30, 40, 64), (1, 6, 10)]
)
def test_the_sigma_table_is_that_of_the_released_scheduler(pipeline, steps, height, width):
    released = sys.modules[type(pipeline).__module__]
    tokens = 9 * height * width // 4
    mu = min(released.calculate_shift(tokens, 256, 4096, 0.5, 1.15), math.log(7.0))
    scheduler = type(pipeline.scheduler)(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1], mu=mu)
    torch.testing.assert_close(sigma_schedule(steps, shift_for_tokens(tokens)), scheduler.sigmas, atol=1e-7, rtol=0)


def test_at_480p_the_shift_is_the_static_one_of_the_released_scheduler(pipeline):
    scheduler = type(pipeline.scheduler)(shift=7.0)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, 26)[:-1])
    table = sigma_schedule(25, shift_for_tokens(9 * 30 * 52))
    torch.testing.assert_close(table, scheduler.sigmas, atol=1e-7, rtol=0)


def test_frames_of_f1_are_those_of_the_released_pipeline(run_released, pipeline, ours, still, monkeypatch, tmp_path):
    start = still(2)
    released = run_released("f1", 2, start, None, output_type="pt")
    pipeline.vae.save_pretrained(tmp_path / "vae")
    vae = HunyuanVAE(ReleasedFolder(tmp_path), torch.device("cpu"), torch.float32, tiling=Tiling(side_px=None))
    firsts = released.calls[::STEPS]
    monkeypatch.setattr(rollout_module, "_noise", lambda shape, seed, number: firsts[number]["hidden_states"])
    sampling = Sampling(euler, STEPS, shift_for_tokens(TOKENS), GUIDANCE, 0)
    sections = rollout(ours, start, conditioning_of(firsts[0]), 2, sampling)
    clips = list(stream_clips(vae, start, sections))
    frames = torch.cat(clips[1:], 2)[0].transpose(0, 1).clamp(-1, 1) / 2 + 0.5
    assert frames.shape[0] == 72
    assert released.made.shape[0] == 73
    # The start frame is not compared: ours is written as it was given.
    torch.testing.assert_close(frames, released.made[1:], atol=1e-4, rtol=0)
    assert frames.std() > 0.01
