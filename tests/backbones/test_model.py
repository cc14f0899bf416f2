from dataclasses import replace

import pytest
import torch

from mpgen.backbones.base import Backbone, Context
from mpgen.backbones.hunyuan.model import Hunyuan
from mpgen.backbones.rope import no_rotation
from mpgen.conditioning import Conditioning


@pytest.fixture
def backbone(small_config, perturb) -> Hunyuan:
    torch.manual_seed(0)
    return perturb(Hunyuan(small_config.backbone))


@pytest.fixture(params=["hunyuan", "wan"])
def any_backbone(request, small_config, wan_backbone, perturb) -> Backbone:
    config = {"hunyuan": small_config.backbone, "wan": wan_backbone}[request.param]
    torch.manual_seed(0)
    return perturb(config.build())


@pytest.fixture
def make_context():
    """Contexts of `tokens` random tokens, of which video i may be seen up to `visible[i]`."""

    def make(*visible: int, tokens: int = 8, seed: int = 0) -> Context:
        generator = torch.Generator().manual_seed(seed)
        videos = len(visible)
        rotation = no_rotation(videos, tokens, 16, torch.device("cpu"))
        mask = torch.arange(tokens)[None] < torch.tensor(visible)[:, None]
        indices = torch.tensor([[20 + i, 21 + i, 22 + i] for i in range(videos)])
        return Context(torch.randn(videos, tokens, 32, generator=generator), rotation, mask, indices)

    return make


def velocity(
    backbone: Backbone, noisy, sigma, context, conditioning, scale: float = 10.0, context_sigma: float | None = None
):
    context = replace(context, sigma=context_sigma)
    tokens, temb = backbone.trunk(noisy, sigma, context, conditioning.guided(scale))
    return backbone.head(tokens, temb, backbone.grid(noisy))


def one(item: int, context: Context, conditioning: Conditioning) -> tuple[Context, Conditioning]:
    i = slice(item, item + 1)
    parts = (context.tokens, context.rotation, context.mask, context.section_indices)
    features = (conditioning.text, conditioning.text_mask, conditioning.pooled, conditioning.image)
    return Context(*(part[i] for part in parts)), Conditioning(*(part[i] for part in features))


def test_a_batch_of_two_is_two_single_runs(any_backbone, latents, make_context, make_conditioning):
    noisy, sigma = latents(2, 3), torch.tensor([0.3, 0.871])
    context, conditioning = make_context(8, 5), make_conditioning(3, 6)
    both = velocity(any_backbone, noisy, sigma, context, conditioning)
    for i in range(2):
        alone = velocity(any_backbone, noisy[i : i + 1], sigma[i : i + 1], *one(i, context, conditioning))
        torch.testing.assert_close(both[i : i + 1], alone, atol=2e-5, rtol=0)
    assert both.std() > 0.01


@pytest.mark.parametrize("lengths", [(4,), (4, 2)])
def test_neither_length_nor_content_of_text_padding_matters(
    any_backbone, latents, make_context, make_conditioning, lengths
):
    noisy, sigma = latents(len(lengths), 3), torch.full((len(lengths),), 0.4)
    context = make_context(*[8 for _ in lengths])
    tight = velocity(any_backbone, noisy, sigma, context, make_conditioning(*lengths))
    for loose in (make_conditioning(*lengths, padded_to=9), make_conditioning(*lengths, padded_to=7, padding=-80.0)):
        torch.testing.assert_close(velocity(any_backbone, noisy, sigma, context, loose), tight, atol=2e-5, rtol=0)


@pytest.mark.parametrize("context_sigma", [None, 0.3])
def test_one_noise_level_for_every_frame_is_the_one_of_the_video(
    any_backbone, latents, make_context, make_conditioning, context_sigma
):
    noisy, context, conditioning = latents(2, 3), make_context(8, 7), make_conditioning(3, 4)
    sigma = torch.tensor([0.3, 0.7])
    of_video = velocity(any_backbone, noisy, sigma, context, conditioning, context_sigma=context_sigma)
    of_frames = velocity(
        any_backbone, noisy, sigma[:, None].expand(-1, 3), context, conditioning, context_sigma=context_sigma
    )
    torch.testing.assert_close(of_frames, of_video, atol=2e-5, rtol=0)


def test_context_at_the_level_of_the_section_is_the_released_behaviour(
    backbone, latents, make_context, make_conditioning
):
    noisy, context, conditioning, sigma = (
        latents(2, 3),
        make_context(8, 7),
        make_conditioning(3, 4),
        torch.full((2,), 0.6),
    )
    released = velocity(backbone, noisy, sigma, context, conditioning)
    torch.testing.assert_close(
        velocity(backbone, noisy, sigma, context, conditioning, context_sigma=0.6), released, atol=2e-5, rtol=0
    )
    clean = velocity(backbone, noisy, sigma, context, conditioning, context_sigma=0.0)
    assert (clean - released).abs().max() > 1e-4


def test_the_noise_level_of_a_frame_acts_on_that_frame_most(any_backbone, latents, make_context, make_conditioning):
    noisy, context, conditioning = latents(1, 3), make_context(8), make_conditioning(3)
    before = velocity(any_backbone, noisy, torch.tensor([[0.5, 0.5, 0.5]]), context, conditioning)
    after = velocity(any_backbone, noisy, torch.tensor([[0.2, 0.5, 0.8]]), context, conditioning)  # the mean stays
    change = (after - before).abs().amax((0, 1, 3, 4))
    assert change[0] > 3 * change[1]
    assert change[2] > 3 * change[1]


INPUTS = ["noisy", "sigma", "context", "text", "pooled", "image", "scale", "indices"]


@pytest.mark.parametrize("changed", INPUTS)
def test_every_input_matters(backbone, latents, make_context, make_conditioning, changed):
    given = {
        "noisy": latents(1, 3),
        "sigma": torch.tensor([0.5]),
        "context": make_context(8),
        "conditioning": make_conditioning(4),
        "scale": 10.0,
    }
    before = velocity(backbone, *given.values())
    conditioning, context = given["conditioning"], given["context"]
    other = make_conditioning(4, seed=1)
    if changed in ("text", "pooled", "image"):
        given["conditioning"] = replace(conditioning, **{changed: vars(other)[changed]})
    elif changed == "context":
        given["context"] = make_context(8, seed=1)
    elif changed == "indices":
        given["context"] = Context(context.tokens, context.rotation, context.mask, 2 * context.section_indices)
    else:
        given[changed] = {"noisy": latents(1, 3, seed=1), "sigma": torch.tensor([0.6]), "scale": 9.0}[changed]
    assert (velocity(backbone, *given.values()) - before).abs().max() > 1e-5


def test_masked_context_tokens_do_not_matter(any_backbone, latents, make_context, make_conditioning):
    noisy, sigma, conditioning = latents(1, 3), torch.tensor([0.5]), make_conditioning(4)
    context = make_context(5)
    loud = context.tokens.clone()
    loud[:, 5:] = 30.0
    changed = Context(loud, context.rotation, context.mask, context.section_indices)
    torch.testing.assert_close(
        velocity(any_backbone, noisy, sigma, changed, conditioning),
        velocity(any_backbone, noisy, sigma, context, conditioning),
    )
    everything = Context(loud, context.rotation, torch.ones_like(context.mask), context.section_indices)
    assert (
        velocity(any_backbone, noisy, sigma, everything, conditioning)
        - velocity(any_backbone, noisy, sigma, context, conditioning)
    ).std() > 1e-4


def test_a_fresh_network_predicts_no_velocity_and_every_block_is_the_identity(
    small_config, latents, make_context, make_conditioning
):
    backbone = Hunyuan(small_config.backbone)
    tokens, temb = backbone.trunk(latents(1, 3), torch.tensor([0.5]), make_context(8), make_conditioning(4))
    torch.testing.assert_close(tokens, backbone.x_embedder(latents(1, 3)))
    assert not backbone.head(tokens, temb, (3, 3, 5)).any()


def test_the_head_scales_by_the_first_half_of_its_modulation_and_shifts_by_the_second(backbone):
    with torch.no_grad():
        backbone.norm_out.linear.weight.zero_()
        backbone.norm_out.linear.bias.copy_(torch.cat([torch.full((32,), 2.0), torch.full((32,), 5.0)]))
    tokens = torch.randn(1, 3 * 3 * 5, 32)
    inner = 3.0 * torch.nn.functional.layer_norm(tokens, (32,), eps=1e-6) + 5.0
    wanted = backbone.proj_out(inner).reshape(1, 3, 3, 5, 3, 2, 2).permute(0, 4, 1, 2, 5, 3, 6).reshape(1, 3, 3, 6, 10)
    torch.testing.assert_close(backbone.head(tokens, torch.randn(1, 1, 32), (3, 3, 5)), wanted)


def test_gradients_reach_every_parameter_but_those_of_history(backbone, latents, make_context, make_conditioning):
    velocity(
        backbone, latents(1, 3), torch.tensor([0.5]), make_context(8), make_conditioning(4)
    ).square().mean().backward()
    without = {
        name for name, parameter in backbone.named_parameters() if parameter.grad is None or not parameter.grad.any()
    }
    assert {name.split(".")[0] for name in without} == {"clean_x_embedder"}
