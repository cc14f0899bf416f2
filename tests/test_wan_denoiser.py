"""MemoryPack on the backbone that has neither image features nor a pooled text, and whose history is clean to it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mpgen.backbones.wan.released import released_card
from mpgen.checkpoints import LoadedModel, begin_from, load_released, model_card
from mpgen.checkpoints.export import export_model
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser
from mpgen.encoders.tiny import TinyEncoders
from mpgen.errors import UserError
from mpgen.generation.rollout import Sampling, rollout
from mpgen.memory.structures import Reminded, StructureA, StructureC
from mpgen.sampling import euler
from mpgen.sections import Forward


@pytest.fixture
def make_wan(make_denoiser, wan_backbone):
    return lambda **fields: make_denoiser(backbone=wan_backbone, **fields)


@pytest.fixture
def make_text(make_conditioning):
    """Conditioning with text alone."""
    return lambda *lengths, **options: replace(make_conditioning(*lengths, **options), pooled=None, image=None)


def remembered(denoiser, start, conditioning, sections, keep=0):
    past = denoiser.begin(start, conditioning, keep)
    for section in sections:
        past = past.after(section)
    return past


@pytest.mark.parametrize("structure", [StructureA(), StructureC(), Reminded()])
def test_a_batch_with_different_texts_is_two_single_runs(make_wan, small_config, make_text, latents, structure):
    denoiser = make_wan(memory=replace(small_config.memory, structure=structure))
    conditioning, start, sections = make_text(5, 2), latents(2, 1), [latents(2, 3), latents(2, 3, seed=1)]
    noisy, sigma = latents(2, 3, seed=7), torch.tensor([0.3, 0.9])
    both = denoiser(noisy, sigma, remembered(denoiser, start, conditioning, sections).pack(), conditioning)
    for i, length in enumerate((5, 2)):
        one = slice(i, i + 1)
        own = Conditioning(conditioning.text[one, :length], conditioning.text_mask[one, :length], None, None)
        past = remembered(denoiser, start[one], own, [section[one] for section in sections])
        alone = denoiser(noisy[one], sigma[one], past.pack(), own)
        torch.testing.assert_close(both[one], alone, atol=2e-5, rtol=0)


def test_the_memory_begins_with_the_start_image_in_place_of_image_features(make_wan, make_text, latents):
    denoiser, conditioning = make_wan(), make_text(4)

    def seed(start, conditioning=conditioning) -> torch.Tensor:
        return denoiser.begin(start, conditioning, keep=1).psi.read().tokens

    before = seed(latents(1, 1))
    assert not torch.allclose(seed(latents(1, 1, seed=1)), before, atol=1e-3)
    assert not torch.allclose(seed(latents(1, 1), make_text(4, seed=1)), before, atol=1e-3)
    assert denoiser.memory.image_in.in_features == 3 * 2 * 2
    denoiser.memory.image_in.weight.grad = None
    seed(latents(1, 1)).square().mean().backward()
    assert denoiser.memory.image_in.weight.grad.any()
    with_image = replace(conditioning, image=torch.randn(1, 4, 5))  # encoders may give what the backbone does not take
    torch.testing.assert_close(seed(latents(1, 1), with_image), before)


def test_memory_and_history_are_clean_to_the_backbone_and_change_the_velocity(make_wan, make_text, latents):
    denoiser, conditioning = make_wan(), make_text(4)
    noisy, sigma = latents(1, 3, seed=7), torch.tensor([0.5])
    past = remembered(denoiser, latents(1, 1), conditioning, [latents(1, 3)])
    other = remembered(denoiser, latents(1, 1), conditioning, [latents(1, 3, seed=1)])
    before = denoiser(noisy, sigma, past.pack(), conditioning)
    torch.testing.assert_close(denoiser(noisy, sigma, replace(past.pack(), sigma=0.0), conditioning), before)
    for changed in (replace(past, history=other.history), replace(past, psi=other.psi)):
        assert (denoiser(noisy, sigma, changed.pack(), conditioning) - before).abs().max() > 1e-6


def test_history_and_memory_do_not_read_the_text(make_wan, make_text, latents):
    denoiser = make_wan()
    past = remembered(denoiser, latents(1, 1), make_text(4), [latents(1, 3)])
    first, outputs = denoiser.backbone.blocks[0], []
    first.register_forward_hook(lambda _, __, output: outputs.append(output))
    for seed in (0, 1):
        denoiser(latents(1, 3, seed=7), torch.tensor([0.5]), past.pack(), make_text(4, seed=seed))
    (history, section), (same, other) = outputs
    assert torch.equal(history, same)
    assert not torch.allclose(section, other, atol=1e-4)


def test_a_rollout_reads_the_text_once_a_section_and_gives_the_same(make_wan, make_text, latents, monkeypatch):
    denoiser = make_wan().eval()
    kind, calls = type(denoiser.backbone.blocks[0].attn2), []
    keys_values = kind.keys_values

    def watched(self, x):
        calls.extend([self] if any(self is block.attn2 for block in denoiser.backbone.blocks) else [])
        return keys_values(self, x)

    def sections() -> list[torch.Tensor]:
        return list(rollout(denoiser, latents(2, 1), make_text(4, 2), 2, Sampling(euler, 3, 1.0, 4.0, 0)))

    monkeypatch.setattr(kind, "keys_values", watched)
    kept, num_kept = sections(), len(calls)
    monkeypatch.setattr(type(denoiser.backbone), "prepared", lambda self, conditioning: conditioning)
    anew = sections()
    assert num_kept == 2 * len(denoiser.backbone.blocks)
    assert len(calls) - num_kept == 3 * num_kept
    assert all(torch.equal(a, b) for a, b in zip(kept, anew, strict=True))


@pytest.fixture
def plain_folder(make_wan, tmp_path):
    """Wan without history, as diffusers saves it."""
    source = make_wan(memory=None).backbone
    state = {name: t for name, t in source.state_dict().items() if not name.startswith(source.additions)}
    state["scale_shift_table"] = state.pop("norm_out.scale_shift_table")
    card = released_card(source.config)
    kept = ("in_channels", "out_channels", "num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim",
            "text_dim", "freq_dim", "patch_size")  # fmt: skip
    card = {key: card[key] for key in kept} | {"_class_name": "WanTransformer3DModel", "rope_max_seq_len": 1024}
    (tmp_path / "config.json").write_text(json.dumps(card))
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    return source, tmp_path


def test_plain_wan_gets_history_patches_by_the_published_recipe_and_a_memory_in_their_language(
    plain_folder, small_config, wan_backbone
):
    source, folder = plain_folder
    assert load_released(folder).layout == Forward(alone=True)  # as Helios was trained
    denoiser = load_released(folder, replace(small_config, backbone=wan_backbone))
    backbone = denoiser.backbone
    assert backbone.config.rope_dim == (16 - 4 * (16 // 6), 2 * (16 // 6), 2 * (16 // 6))  # Wan's rule
    state = source.state_dict()
    for name, tensor in backbone.state_dict().items():
        assert name.startswith(backbone.additions) or torch.equal(tensor, state[name]), name
    for factor in (1, 2, 4):
        kernel = backbone.history_kernel(factor)
        tiled = source.patch_embedding.weight.repeat(1, 1, factor, factor, factor) / factor**3
        torch.testing.assert_close(kernel.weight, tiled)
        torch.testing.assert_close(kernel.bias, source.patch_embedding.bias)
    torch.testing.assert_close(denoiser.memory.window_embed.bias, source.patch_embedding.bias)


def test_a_new_denoiser_has_a_memory_in_the_language_of_the_history(small_config, wan_backbone, latents):
    memory = replace(small_config.memory, window_patch=(1, 2, 2))
    denoiser = Denoiser(replace(small_config, backbone=wan_backbone, memory=memory))
    section = latents(2, 3)
    torch.testing.assert_close(denoiser.memory.memorize(section).tokens, denoiser.backbone.embed_history(section, 1))


# --- weights that do not fit, and weights that go out


def edit(folder: Path, **settings: object) -> None:
    card = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"in_channels": 36, "out_channels": 16}, "in_channels is 36 and out_channels 16: .* image-to-video"),
        ({"image_dim": 1280}, "image_dim is 1280, wanted None"),
        ({"added_kv_proj_dim": 5120}, "added_kv_proj_dim is 5120, wanted None"),
        ({"is_amplify_history": True}, "is_amplify_history is True, wanted False"),
        ({"quantization_config": {}}, "quantization_config is {}, wanted None"),
        ({"num_layers": "many"}, "num_layers is 'many', wanted something like 40"),
        ({"num_layers": 3}, r"does not fit the model: \d+ missing \(backbone\.blocks\.2\."),
    ],
)
def test_what_is_wrong_with_a_wan_folder_is_said_in_one_line(
    plain_folder, small_config, wan_backbone, settings, complaint
):
    _, folder = plain_folder
    edit(folder, **settings)
    config = replace(small_config, backbone=replace(wan_backbone, num_layers=3))
    for load in (lambda: load_released(folder), lambda: begin_from(folder, config, seed=0)):
        with pytest.raises(UserError, match=complaint) as error:
            load()
        assert "\n" not in str(error.value)


@pytest.fixture
def hunyuan_folder(small_config, make_denoiser, tmp_path):
    backbone = replace(small_config.backbone, refiner_mlp_ratio=4.0)
    card, tensors = make_denoiser(backbone=backbone, memory=None).backbone.to_released()
    folder = tmp_path / "hunyuan"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(card))
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return folder


def test_the_other_backbones_folder_is_said_in_one_line(plain_folder, hunyuan_folder, small_config, wan_backbone):
    wan = replace(small_config, backbone=wan_backbone)
    for config, folder, complaint in (
        (wan, hunyuan_folder, r"is of a HunyuanVideoFramepack\S+, which HunyuanConfig describes, .* is WanConfig"),
        (small_config, plain_folder[1], r"is of a WanTransformer3DModel, which WanConfig .* is HunyuanConfig"),
    ):
        for load in (lambda f=folder, c=config: load_released(f, c), lambda f=folder, c=config: begin_from(f, c, 0)):
            with pytest.raises(UserError, match=complaint) as error:
                load()
            assert "\n" not in str(error.value)


def test_an_exported_wan_is_loaded_strictly_by_diffusers_class_and_by_us(make_wan, small_config, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    denoiser = make_wan()
    config = replace(small_config, backbone=denoiser.backbone.config)
    card = model_card(config, TinyEncoders(), 5.0, 48, 80, 24.0)
    model = LoadedModel(denoiser, TinyEncoders(), 5.0, 48, 80, 24.0, tmp_path, 3, card)
    export_model(model, tmp_path / "out")
    kind = diffusers.HeliosTransformer3DModel
    theirs, report = kind.from_pretrained(tmp_path / "out" / "transformer", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    again = load_released(tmp_path / "out" / "transformer").backbone
    assert again.config == replace(denoiser.backbone.config, text_tokens=512)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
        assert torch.equal(denoiser.backbone.state_dict()[name], tensor), name
