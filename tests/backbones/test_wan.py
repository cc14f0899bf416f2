"""Wan's own laws: the released names and sizes, text that is read once, history that reads none."""

import re
from dataclasses import replace

import pytest
import torch

from mpgen.backbones.base import Context
from mpgen.backbones.recompute import RECOMPUTE
from mpgen.backbones.rope import no_rotation
from mpgen.backbones.wan import WanConfig
from mpgen.backbones.wan.keymap import LAYERS, TABLES, locate, released_name
from mpgen.backbones.wan.model import Wan
from mpgen.errors import UserError

RELEASED = {
    "1.3B": (WanConfig(num_attention_heads=12, num_layers=30, ffn_dim=8960), 1_418_996_800, 7_180_800, 101_440),
    "5B": (
        WanConfig(num_attention_heads=24, num_layers=30, ffn_dim=14336, in_channels=48),
        4_999_787_712, 43_066_368, 596_160,
    ),
    "14B": (WanConfig(), 14_288_491_584, 23_936_000, 337_984),
}  # fmt: skip
LINEAR = r"\.(weight|bias)"
PATTERNS = (
    r"patch_(embedding|short|mid|long)" + LINEAR,
    r"condition_embedder\.(time_embedder\.linear_[12]|time_proj|text_embedder\.linear_[12])" + LINEAR,
    r"blocks\.\d+\.attn[12]\.(to_[qkv]|to_out\.0)" + LINEAR,
    r"blocks\.\d+\.attn[12]\.norm_[qk]\.weight",
    r"blocks\.\d+\.(norm2|ffn\.net\.0\.proj|ffn\.net\.2)" + LINEAR,
    r"blocks\.\d+\.scale_shift_table",
    r"norm_out\.scale_shift_table",
    r"proj_out" + LINEAR,
)


@pytest.mark.parametrize("size", RELEASED)
def test_released_sizes_have_the_released_names_and_parameters(size):
    config, plain, additions, head = RELEASED[size]
    with torch.device("meta"):
        state = config.build().state_dict()
    assert [name for name in state if not any(re.fullmatch(pattern, name) for pattern in PATTERNS)] == []
    assert all(any(re.fullmatch(pattern, name) for name in state) for pattern in PATTERNS)
    counts = {name: tensor.numel() for name, tensor in state.items()}
    assert sum(n for name, n in counts.items() if name.startswith(Wan.additions)) == additions
    assert sum(n for name, n in counts.items() if name.startswith(Wan.head_names)) == head
    assert sum(counts.values()) == plain + additions


def test_diffusers_classes_have_the_same_names_and_shapes():
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        ours = WanConfig(num_layers=2).build().state_dict()
        helios = diffusers.HeliosTransformer3DModel(num_layers=2).state_dict()
        wan = diffusers.WanTransformer3DModel(num_layers=2).state_dict()
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in helios.items()}
    num_rows = {name: len(tensor) for name, tensor in ours.items()}
    located = {own: tensor.shape for name, tensor in wan.items() for own in locate(name, num_rows)}
    assert located == {name: t.shape for name, t in ours.items() if not name.startswith(Wan.additions)}


def test_diffusers_reads_wans_own_names_in_the_same_way(wan_backbone):
    convert = pytest.importorskip("diffusers.loaders.single_file_utils").convert_wan_transformer_to_diffusers
    state = {name: t for name, t in Wan(wan_backbone).state_dict().items() if not name.startswith(Wan.additions)}
    num_rows, own = {name: len(t) for name, t in state.items()}, {}
    for pattern in (*LAYERS, *TABLES):
        for number, kind in ((n, k) for n in range(2) for k in (".weight", ".bias", "")):
            name = released_name(pattern.format(number) + kind)
            if name in state and pattern != "scale_shift_table":  # which is plain Wan's in diffusers
                own[pattern.format(number) + kind] = state[name]
    own |= {name: t for name, t in state.items() if name.startswith("patch_embedding")}
    assert len(own) == len(state)
    for prefix in ("", "model.diffusion_model."):
        assert all(list(locate(prefix + name, num_rows)) for name in own)
    converted = convert(dict(own))
    for name, tensor in converted.items():
        (found,) = locate(name, num_rows)
        assert torch.equal(tensor, state[found]), name
    assert len(converted) == len(state)


def test_a_name_of_nobody_is_no_row_of_the_table():
    assert released_name("blocks.0.self_attn.q.scale_weight") is None
    assert released_name("blocks.0.modulation.weight") is None
    assert locate("blocks.7.self_attn.q.weight", {"proj_out.weight": 3}) == {}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"rope_dim": (44, 42, 40)}, "rope_dim"),
        ({"rope_dim": (45, 41, 42)}, "rope_dim"),
        ({"patch_size": (2, 2, 2)}, r"patch_size \[2, 2, 2\]: wanted 1 latent frame"),
        ({"text_tokens": 0}, "text_tokens 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(given, complaint):
    with pytest.raises(UserError, match=complaint):
        WanConfig(**given)


# --- what it computes


@pytest.fixture
def backbone(wan_backbone, perturb) -> Wan:
    torch.manual_seed(0)
    return perturb(Wan(wan_backbone))


@pytest.fixture
def context() -> Context:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randn(2, 8, 32, generator=generator)
    rotation = no_rotation(2, 8, 16, torch.device("cpu"))
    return Context(tokens, rotation, torch.ones(2, 8, dtype=torch.bool), torch.tensor([[20, 21, 22], [5, 6, 7]]))


def velocity(backbone, noisy, sigma, context, conditioning):
    tokens, temb = backbone.trunk(noisy, sigma, context, conditioning)
    return backbone.head(tokens, temb, backbone.grid(noisy))


@pytest.mark.parametrize("changed", ["noisy", "sigma", "context", "text", "indices", "context_sigma"])
def test_every_input_matters(backbone, context, latents, make_conditioning, changed):
    noisy, sigma, conditioning = latents(2, 3), torch.tensor([0.5, 0.3]), make_conditioning(4, 2)
    before = velocity(backbone, noisy, sigma, context, conditioning)
    after = {
        "noisy": lambda: (latents(2, 3, seed=1), sigma, context, conditioning),
        "sigma": lambda: (noisy, sigma + 0.1, context, conditioning),
        "context": lambda: (noisy, sigma, replace(context, tokens=-context.tokens), conditioning),
        "text": lambda: (noisy, sigma, context, make_conditioning(4, 2, seed=1)),
        "indices": lambda: (noisy, sigma, replace(context, section_indices=2 * context.section_indices), conditioning),
        "context_sigma": lambda: (noisy, sigma, replace(context, sigma=0.5), conditioning),
    }[changed]()
    assert (velocity(backbone, *after) - before).abs().max() > 1e-5


def test_padding_of_the_text_is_attended_to_and_what_is_too_long_is_cut(backbone, context, latents, make_conditioning):
    noisy, sigma = latents(2, 3), torch.tensor([0.5, 0.3])
    seven, nine = make_conditioning(7, 7), make_conditioning(9, 9)
    cut = replace(nine, text=nine.text[:, :7], text_mask=nine.text_mask[:, :7])
    torch.testing.assert_close(
        velocity(backbone, noisy, sigma, context, nine), velocity(backbone, noisy, sigma, context, cut)
    )
    zeros = replace(seven, text=torch.cat([seven.text[:, :2], torch.zeros(2, 5, 10)], 1))
    two = replace(seven, text=seven.text[:, :2], text_mask=seven.text_mask[:, :2])
    padded = velocity(backbone, noisy, sigma, context, two)
    torch.testing.assert_close(padded, velocity(backbone, noisy, sigma, context, zeros))


def test_of_prepared_conditioning_the_text_is_read_once(backbone, context, latents, make_conditioning, count_calls):
    noisy, conditioning = latents(2, 3), make_conditioning(4, 2).guided(3.0)
    sigmas = [torch.tensor([0.9, 0.8]), torch.tensor([0.5, 0.3])]
    with torch.no_grad():
        wanted = [velocity(backbone, noisy, sigma, context, conditioning) for sigma in sigmas]
        read = count_calls(type(backbone.blocks[0].attn2), "keys_values")
        prepared = backbone.prepared(conditioning)
        assert prepared.guidance_scale == 3.0
        got = [velocity(backbone, noisy, sigma, context, prepared) for sigma in sigmas]
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    of_text = [given for given in read if any(given[0] is block.attn2 for block in backbone.blocks)]
    assert len(of_text) == len(backbone.blocks)


@pytest.mark.parametrize("choice", ["selective", "full"])
def test_what_is_computed_again_gives_the_same_gradients(backbone, context, latents, make_conditioning, choice):
    given = latents(2, 3), torch.tensor([0.5, 0.3]), context, make_conditioning(4, 2)

    def gradients() -> dict[str, torch.Tensor]:
        backbone.zero_grad()
        velocity(backbone, *given).square().mean().backward()
        return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}

    kept = gradients()
    for block in backbone.blocks:
        block.run = RECOMPUTE[choice]
    again = gradients()
    assert kept.keys() == again.keys()
    assert all(torch.equal(gradient, again[name]) for name, gradient in kept.items())
    assert {n.split(".")[0] for n, _ in backbone.named_parameters() if n not in kept} == {
        name.rstrip(".") for name in backbone.additions
    }


def test_of_two_blocks_of_sections_the_first_sees_nothing_of_the_second(backbone, latents, make_conditioning):
    indices = torch.arange(20, 24).expand(1, -1)
    rotation = no_rotation(1, 8, 16, torch.device("cpu"))
    tokens, mask = torch.ones(1, 8, 32), torch.ones(1, 8, dtype=torch.bool)
    blocks = torch.arange(1, 3).repeat_interleave(2 * 15)
    causal = Context(tokens, rotation, mask, indices, 0.0, torch.cat([torch.zeros(8, dtype=torch.long), blocks]))
    noisy, sigma, conditioning = latents(1, 4), torch.tensor([[0.2, 0.2, 0.9, 0.9]]), make_conditioning(4)
    changed = torch.cat([noisy[:, :, :2], latents(1, 2, seed=3)], 2)
    before, after = (velocity(backbone, x, sigma, causal, conditioning) for x in (noisy, changed))
    torch.testing.assert_close(after[:, :, :2], before[:, :, :2])
    assert (after[:, :, 2:] - before[:, :, 2:]).abs().max() > 1e-4
    whole = replace(causal, blocks=None)
    assert (
        velocity(backbone, changed, sigma, whole, conditioning) - velocity(backbone, noisy, sigma, whole, conditioning)
    )[:, :, :2].abs().max() > 1e-5


def test_a_fresh_network_predicts_no_velocity_and_every_block_is_the_identity(
    wan_backbone, context, latents, make_conditioning
):
    backbone = Wan(wan_backbone)
    tokens, temb = backbone.trunk(latents(2, 3), torch.tensor([0.5, 0.3]), context, make_conditioning(4, 2))
    torch.testing.assert_close(tokens, backbone.patch_embedding(latents(2, 3)).flatten(2).transpose(1, 2))
    assert not backbone.head(tokens, temb, (3, 3, 5)).any()
    for factor in (1, 2, 4):
        tiled = backbone.patch_embedding.weight.repeat(1, 1, *3 * [factor]) / factor**3
        torch.testing.assert_close(backbone.history_kernel(factor).weight, tiled)
