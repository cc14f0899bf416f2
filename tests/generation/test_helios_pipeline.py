"""Section by section as `HeliosPipeline` of diffusers does it, with random weights and tiny parts."""

import warnings
from dataclasses import dataclass, replace

import pytest
import torch

from mpgen.backbones.wan import WanConfig
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.released import ReleasedFolder
from mpgen.encoders.wan import PARTS
from mpgen.encoders.wan_vae import WanVAE
from mpgen.flow import shift_for_tokens
from mpgen.generation import rollout as rollout_module
from mpgen.generation.decoding import stream_clips
from mpgen.generation.rollout import Sampling, rollout
from mpgen.sampling import SAMPLERS, block_noise
from mpgen.sections import Forward

pytest.importorskip("diffusers")

BACKBONE = WanConfig(
    in_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, ffn_dim=40, text_dim=10, freq_dim=32,
    rope_dim=(4, 6, 6), text_tokens=9,
)  # fmt: skip
HEIGHT_PX, WIDTH_PX, STEPS, GUIDANCE = 48, 80, 3, 3.0
TOKENS = 9 * 3 * 5


@dataclass(frozen=True)
class Released:
    """What the pipeline did: the arguments of every call of its transformer, and the whole video."""

    calls: list[dict[str, torch.Tensor]]
    made: torch.Tensor


@pytest.fixture(scope="module")
def pipeline():
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        from diffusers import AutoencoderKLWan, HeliosPipeline, HeliosScheduler, HeliosTransformer3DModel

        torch.manual_seed(0)
        transformer = HeliosTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, ffn_dim=40,
            text_dim=10, freq_dim=32, rope_dim=(4, 6, 6),
        )  # fmt: skip
        vae = AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1, latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.7, 1.0, 2.0],
        )  # fmt: skip
        with torch.no_grad():
            for parameter in transformer.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        made = HeliosPipeline(
            tokenizer=None, text_encoder=None, vae=vae.eval(), scheduler=HeliosScheduler(stages=1),
            transformer=transformer.eval(),
        )  # fmt: skip
        made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def run_released(pipeline, monkeypatch):
    """The pipeline on so many sections after a start image, whose latents take the place of all that it derives.

    Or from the text alone.
    """

    def run(scheduler: str, num_sections: int, start: torch.Tensor | None, output_type: str = "latent") -> Released:
        calls, forward = [], pipeline.transformer.forward

        def recorded(**given):
            calls.append({k: v.clone() for k, v in given.items() if isinstance(v, torch.Tensor)})
            return forward(**given)

        monkeypatch.setattr(pipeline.transformer, "forward", recorded)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            released = type(pipeline.scheduler)(stages=1, scheduler_type=scheduler, use_dynamic_shifting=True)
        monkeypatch.setattr(pipeline, "scheduler", released)
        generator = torch.Generator().manual_seed(1)
        text = [torch.nn.functional.pad(torch.randn(1, n, 10, generator=generator), (0, 0, 0, 9 - n)) for n in (6, 2)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = pipeline(
                prompt_embeds=text[0], negative_prompt_embeds=text[1], height=HEIGHT_PX, width=WIDTH_PX,
                num_frames=33 * num_sections, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator,
                output_type=output_type, return_dict=False, image_latents=start, fake_image_latents=start,
                add_noise_to_image_latents=False,
            )[0]  # fmt: skip
        return Released(calls, made)

    return run


@pytest.fixture
def run_distilled(pipeline, monkeypatch):
    """`HeliosPyramidPipeline` on a text alone, as Helios-Distilled's card says; and the noise of every section."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import HeliosDMDScheduler, HeliosPyramidPipeline

        pyramid = HeliosPyramidPipeline(
            tokenizer=None, text_encoder=None, vae=pipeline.vae, transformer=pipeline.transformer, is_distilled=True,
            scheduler=HeliosDMDScheduler(use_dynamic_shifting=True),
        )  # fmt: skip
    pyramid.set_progress_bar_config(disable=True)
    calls, noises, forward, prepare = [], [], pipeline.transformer.forward, pyramid.prepare_latents

    def recorded(**given):
        calls.append({k: v.clone() for k, v in given.items() if isinstance(v, torch.Tensor)})
        return forward(**given)

    def recorded_noise(*given, **named):
        noises.append(prepare(*given, **named))
        return noises[-1]

    def blocks(*size_and_more):
        white = noises[-1]
        while white.shape[-1] > size_and_more[4]:
            white = 2 * torch.nn.functional.avg_pool3d(white, (1, 2, 2))
        return block_noise(white)

    monkeypatch.setattr(pipeline.transformer, "forward", recorded)
    monkeypatch.setattr(pyramid, "prepare_latents", recorded_noise)
    monkeypatch.setattr(pyramid, "sample_block_noise", blocks)

    def run(num_sections: int) -> tuple[Released, list[torch.Tensor]]:
        generator = torch.Generator().manual_seed(1)
        text = torch.nn.functional.pad(torch.randn(1, 6, 10, generator=generator), (0, 0, 0, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = pyramid(
                prompt_embeds=text, negative_prompt_embeds=text, height=64, width=128, num_frames=33 * num_sections,
                pyramid_num_inference_steps_list=[1, 1, 1], guidance_scale=1.0, is_amplify_first_chunk=True,
                generator=generator, output_type="latent", return_dict=False,
            )[0]  # fmt: skip
        return Released(calls, made), noises

    return run


@pytest.fixture
def ours(pipeline):
    denoiser = Denoiser(DenoiserConfig(BACKBONE, None, Forward(alone=True)))
    denoiser.backbone.load_state_dict(pipeline.transformer.state_dict())
    return denoiser.eval().requires_grad_(False)


@pytest.fixture
def sections(ours, monkeypatch):
    """Ours on the noise and the texts of what the pipeline did."""

    def make(released: Released, sampler: str, start: torch.Tensor, blank: bool = False) -> list[torch.Tensor]:
        firsts = released.calls[:: 2 * STEPS]
        monkeypatch.setattr(rollout_module, "_noise", lambda shape, seed, number: firsts[number]["hidden_states"])
        texts = [released.calls[branch]["encoder_hidden_states"] for branch in (0, 1)]
        masks = [torch.arange(9)[None] < length for length in (6, 2)]  # what is masked is zero in both
        plain, negative = (Conditioning(text, mask, None, None) for text, mask in zip(texts, masks, strict=True))
        sampling = Sampling(SAMPLERS[sampler], STEPS, shift_for_tokens(TOKENS), GUIDANCE, 0)
        given = replace(plain, negative=negative)
        return list(rollout(ours, start, given, len(firsts), sampling, blank=blank))

    return make


@pytest.mark.parametrize(("scheduler", "sampler"), [("euler", "euler"), ("unipc", "unipc_flow")])
def test_latents_are_those_of_the_released_pipeline(run_released, sections, latents, scheduler, sampler):
    start = latents(1, 1, channels=4)
    released = run_released(scheduler, 2, start)
    assert len(released.calls) == 2 * STEPS * 2
    assert released.calls[0]["indices_hidden_states"].tolist() == [list(range(20, 29))]
    got = torch.cat(sections(released, sampler, start), 2)
    wanted = released.made[:, :, 1:]  # its first latent is the image's
    assert got.shape == wanted.shape == (1, 4, 18, 6, 10)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)
    assert got.std() > 0.1


def test_latents_of_a_text_alone_are_those_of_the_released_pipeline(run_released, sections):
    released, start = run_released("euler", 2, None), torch.zeros(1, 4, 1, 6, 10)
    got = torch.cat(sections(released, "euler", start, blank=True), 2)
    assert got.shape == released.made.shape == (1, 4, 18, 6, 10)
    torch.testing.assert_close(got, released.made, atol=1e-4, rtol=0)
    starts = [call["latents_history_short"][:, :, 0] for call in released.calls[:: 2 * STEPS]]
    assert torch.equal(starts[0], start[:, :, 0])
    torch.testing.assert_close(starts[1], got[:, :, 0], atol=1e-4, rtol=0)


def test_latents_of_helios_distilled_are_those_of_its_pipeline(run_distilled, ours, monkeypatch):
    released, noises = run_distilled(2)
    assert [call["hidden_states"].shape[-1] for call in released.calls] == [4, 4, 8, 8, 16, 16, 4, 8, 16]
    monkeypatch.setattr(rollout_module, "_noise", lambda shape, seed, number: noises[number])
    text = Conditioning(released.calls[0]["encoder_hidden_states"], torch.arange(9)[None] < 6, None, None)
    sampling, start = Sampling(SAMPLERS["helios_distilled"], 3, 1.0, 1.0, 0, first_times=2), torch.zeros(1, 4, 1, 8, 16)
    told = []
    ours.register_forward_pre_hook(lambda _, given: told.append(1000 * given[1]))
    got = torch.cat([*rollout(ours, start, text, 2, sampling, blank=True)], 2)
    assert got.shape == released.made.shape == (1, 4, 18, 8, 16)
    torch.testing.assert_close(got, released.made, atol=1e-4, rtol=0)
    wanted = torch.cat([call["timestep"] for call in released.calls])
    torch.testing.assert_close(torch.cat(told), wanted.float(), atol=1e-3, rtol=0)


def test_frames_are_those_of_the_released_pipeline(run_released, pipeline, sections, latents, tmp_path):
    start = latents(1, 1, channels=4)
    released = run_released("euler", 2, start, output_type="pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.vae.save_pretrained(tmp_path / "vae")
    vae = WanVAE(ReleasedFolder(tmp_path, PARTS), torch.device("cpu"), torch.float32)
    clips = list(stream_clips(vae, start, sections(released, "euler", start), alone=True))
    frames = torch.cat(clips[1:], 2)[0].transpose(0, 1) / 2 + 0.5
    wanted = released.made[0]
    assert len(frames) == 66  # the pipeline cuts its own to 1 + 4k
    torch.testing.assert_close(frames[: len(wanted)], wanted, atol=1e-4, rtol=0)
    assert frames.std() > 0.01
