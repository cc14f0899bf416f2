"""Caches skip the steps that diffusers' hooks skip, and give the same latents."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from command_line import generate

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.wan import WanConfig
from mpgen.checkpoints import load_released
from mpgen.denoiser import DenoiserConfig
from mpgen.errors import UserError
from mpgen.flow import sigma_schedule
from mpgen.generation.caches import CACHES, Caching, Forwards, cached
from mpgen.generation.denoising import Denoising
from mpgen.generation.rollout import Sampling, rollout
from mpgen.sampling import euler
from mpgen.sections import Forward
from mpgen.video.clips import read_video

TOOL = Path(__file__).parents[2] / "tools" / "compare_with_diffusers.py"
STEPS, SHIFT = 12, 3.0
RATIOS = (1.0, 1.1, 1.05, 0.99, 1.01, 1.02, 0.97)  # fewer than steps: both take the nearest
HUNYUAN = {
    "in_channels": 5, "out_channels": 5, "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2,
    "num_single_layers": 2, "num_refiner_layers": 1, "text_embed_dim": 10, "pooled_projection_dim": 7,
    "image_proj_dim": 12, "rope_axes_dim": (4, 6, 6), "has_image_proj": True, "has_clean_x_embedder": True,
}  # fmt: skip
WAN = {
    "in_channels": 5, "out_channels": 5, "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 3,
    "ffn_dim": 32, "text_dim": 10,
}  # fmt: skip
HELIOS = WAN | {"rope_dim": (4, 4, 4)}


@pytest.fixture(scope="module")
def tool():
    pytest.importorskip("diffusers")
    spec = importlib.util.spec_from_file_location("compare_with_diffusers_for_caches", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module", params=["framepack", "helios", "wan"])
def both(request, tool, tmp_path_factory):
    """A network of diffusers with random weights, the same of ours, and one section's inputs."""
    family, sizes, ours = {
        "framepack": (tool.FRAMEPACK, HUNYUAN, HunyuanConfig()),
        "helios": (tool.HELIOS, HELIOS, WanConfig()),
        "wan": (tool.WAN, WAN, WanConfig()),
    }[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        released = family.released(**sizes).eval().requires_grad_(False)
        for parameter in released.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp(request.param)
    released.save_pretrained(folder)
    denoiser = load_released(folder, DenoiserConfig(ours, layout=Forward(section=3)))
    case = tool.make_case(denoiser, (3, 5), frames=3, batch=1, text=9, past=2, seed=1)
    return family, released, denoiser, case


def sampled(velocity, case):
    return euler(velocity, case.noisy, sigma_schedule(STEPS, SHIFT))


def ours(both, caching):
    """The section, and the steps that were computed."""
    family, _, denoiser, case = both
    computed, forwards = [], Forwards()

    def velocity(x, sigma):
        before = forwards.computed
        out = family.ours(denoiser, type(case)(case.start, case.past, x, torch.tensor([sigma]), case.conditioning))
        computed.append(forwards.computed > before)
        return out

    if family.name.startswith("Wan"):
        num_tokens = 3 * 3 * 5
    else:
        past = denoiser.begin(case.start, case.conditioning)
        for section in case.past:
            past = past.after(section)
        num_tokens = past.pack().tokens.shape[1] + 3 * 3 * 5
    with torch.no_grad(), cached(denoiser.backbone.blocks, caching, STEPS, num_tokens, forwards):
        return sampled(velocity, case), computed, forwards


def theirs(both, tool, config, monkeypatch):
    """The same by diffusers with a hook, which the model loses again."""
    from diffusers.hooks import _helpers, apply_first_block_cache, apply_mag_cache, first_block_cache, mag_cache
    from diffusers.hooks.hooks import CacheContext, HookRegistry
    from diffusers.models.transformers.transformer_helios import HeliosTransformerBlock

    _, released, denoiser, case = both
    _helpers.TransformerBlockRegistry._register()
    registry = _helpers.TransformerBlockRegistry
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    registry.register(HeliosTransformerBlock, _helpers.TransformerBlockMetadata(0, None))  # which diffusers lacks
    is_first_block = isinstance(config, first_block_cache.FirstBlockCacheConfig)
    (apply_first_block_cache if is_first_block else apply_mag_cache)(released, config)
    names = (
        (first_block_cache._FBC_LEADER_BLOCK_HOOK, first_block_cache._FBC_BLOCK_HOOK)
        if is_first_block
        else (mag_cache._MAG_CACHE_LEADER_BLOCK_HOOK, mag_cache._MAG_CACHE_BLOCK_HOOK)
    )
    registries = [HookRegistry.check_if_exists_or_initialize(module) for module in released.modules()]
    hooks = [hook for registry in registries for name in names if (hook := registry.get_hook(name)) is not None]
    manager, computed = hooks[0].state_manager, []
    manager.set_context(CacheContext("one section"))

    def velocity(x, sigma):
        given = type(case)(case.start, case.past, x, torch.tensor([sigma]), case.conditioning)
        out = tool.theirs(released, given, denoiser.layout)
        computed.append(manager.get_state().should_compute)
        return out

    try:
        with torch.no_grad():
            return sampled(velocity, case), computed
    finally:
        for registry in registries:
            for name in names:
                if registry.get_hook(name) is not None:
                    registry.remove_hook(name, recurse=False)


@pytest.mark.parametrize("threshold", [0.1, 0.4])
def test_the_first_block_cache_is_that_of_diffusers(both, tool, monkeypatch, threshold):
    from diffusers.hooks import FirstBlockCacheConfig

    wanted, steps = theirs(both, tool, FirstBlockCacheConfig(threshold), monkeypatch)
    got, computed, forwards = ours(both, Caching("first_block", threshold))
    assert computed == steps
    assert (forwards.computed, forwards.skipped) == (sum(steps), STEPS - sum(steps))
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("threshold", [0.06, 0.3])
def test_magcache_is_that_of_diffusers(both, tool, monkeypatch, threshold):
    from diffusers.hooks import MagCacheConfig

    config = MagCacheConfig(threshold, num_inference_steps=STEPS, mag_ratios=list(RATIOS))
    wanted, steps = theirs(both, tool, config, monkeypatch)
    got, computed, _ = ours(both, Caching("mag", threshold, RATIOS))
    assert computed == steps
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)


def test_calibration_measures_the_ratios_of_diffusers_and_changes_nothing(both, tool, monkeypatch, capsys):
    from diffusers.hooks import MagCacheConfig

    theirs(both, tool, MagCacheConfig(num_inference_steps=STEPS, calibrate=True), monkeypatch)
    printed = capsys.readouterr().out
    wanted = [float(number) for number in printed.partition("[1.0, ")[2].partition("]")[0].split(",")]
    got, computed, forwards = ours(both, Caching("mag_calibrate"))
    assert all(computed)
    torch.testing.assert_close(torch.tensor(forwards.mean_ratios), torch.tensor([1.0, *wanted]), atol=1e-4, rtol=0)
    assert torch.equal(got, ours(both, None)[0])


def test_more_is_skipped_at_higher_thresholds_and_nothing_at_zero(both):
    counts = [ours(both, Caching("first_block", threshold))[2].skipped for threshold in (0.0, 0.1, 0.4, 9.0)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, STEPS - 1)
    assert len({*counts}) > 2


def test_every_section_begins_anew_and_the_blocks_are_left_as_they_were(make_denoiser, make_conditioning, latents):
    denoiser, forwards = make_denoiser().eval(), Forwards()
    before = [block.run for block in denoiser.backbone.blocks]
    sampling = Sampling(euler, 4, 1.0, 2.0, 0, cache=Caching("first_block", 1e9))
    sections = rollout(denoiser, latents(2, 1), make_conditioning(4, 3), 3, sampling, forwards=forwards)
    for section in sections:
        assert section.isfinite().all()
        assert [block.run for block in denoiser.backbone.blocks] == before
    assert (forwards.computed, forwards.skipped) == (3, 9)


def test_a_cache_that_skips_nothing_changes_nothing(make_denoiser, make_conditioning, latents, wan_backbone):
    for fields in ({}, {"backbone": wan_backbone}):
        denoiser = make_denoiser(**fields).eval()
        conditioning = make_conditioning(4)
        made = []
        for cache in (None, *(Caching(name, 0.0, (1.1, 1.2, 1.3)) for name in CACHES)):
            sampling = Sampling(euler, 3, 1.0, 2.0, 0, cache=cache)
            made.append(torch.cat(list(rollout(denoiser, latents(1, 1), conditioning, 2, sampling)), 2))
        assert all(torch.equal(one, made[0]) for one in made)


def test_the_command_measures_ratios_and_then_skips_by_them(trained, tmp_path, capsys):
    given = {"scene": "bounce", "seconds": 0.5, "steps": 8}
    generate(tmp_path / "a.mp4", trained, **given, cache="mag_calibrate")
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["forwards"] == {"computed": 16, "skipped": 0}
    assert len(record["mag_ratios"]) == 8
    assert record["mag_ratios"][0] == 1
    capsys.readouterr()
    generate(tmp_path / "b.mp4", trained, **given, cache="mag", mag_ratios=tmp_path / "a.json", cache_threshold=9.0)
    record = json.loads((tmp_path / "b.json").read_text())
    assert record["forwards"] == {"computed": 6, "skipped": 10}  # 8 steps: two kept, three skipped, one, two
    assert record["sampling"]["cache"]["name"] == "mag"
    assert "skipped 10 of 16 forwards" in capsys.readouterr().out
    assert len(read_video(tmp_path / "b.mp4")) == 17


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"cache": "first-block"}, "--cache first-block: did you mean 'first_block'"),
        ({"cache": "first_block", "cache_threshold": -1.0}, "--cache_threshold -1: wanted 0 or more"),
        ({"cache_threshold": 0.1}, "wanted --cache with them"),
        ({"cache": "mag"}, "--cache mag needs --mag_ratios"),
        ({"cache": "first_block", "mag_ratios": Path("x.json")}, "--cache mag needs --mag_ratios"),
        ({"cache": "mag", "mag_ratios": Path("nowhere.json")}, "nowhere.json does not exist"),
    ],
)
def test_a_cache_that_cannot_be_meant_is_one_line(given, complaint):
    with pytest.raises(UserError, match=complaint):
        Denoising(**given)


@pytest.mark.parametrize(
    "content", ['{"mag_ratios": []}', '{"mag_ratios": [1, -2]}', '{"mag_ratios": [NaN]}', "{}", "[]"]
)
def test_ratios_that_are_none_are_one_line(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json") as error:
        Denoising(cache="mag", mag_ratios=tmp_path / "a.json")
    assert "\n" not in str(error.value)
