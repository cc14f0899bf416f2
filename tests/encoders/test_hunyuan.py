import json
import subprocess
import sys
import weakref

import pytest
import torch

from mpgen.checkpoints import rebuild
from mpgen.encoders import released
from mpgen.encoders.base import Encoders
from mpgen.encoders.hunyuan import CAPTION_TOKENS, TEMPLATE, TEMPLATE_TOKENS, HunyuanEncoders
from mpgen.encoders.hunyuan_vae import WHOLE
from mpgen.encoders.released import OnDemand

CAPTIONS = ["a red disc moves left.", "", "Two blue rings, 12 of them! One hides {behind} the wall; it's back."]
LONG = " ".join(["a red disc moves left."] * 80)


@pytest.fixture
def make_encoders(released_folder):
    """Encoders in float32 on the CPU; options replace their arguments."""

    def make(**options: object) -> HunyuanEncoders:
        given = {"device": "cpu", "dtype": "float32", "vae_dtype": "float32", "tiling": WHOLE}
        return HunyuanEncoders(released_folder, **given | options)

    return make


@pytest.fixture(scope="module")
def pipeline(released_folder):
    """The released pipeline without a transformer, its parts loaded by itself."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    parts = {
        "text_encoder": transformers.LlamaModel,
        "tokenizer": transformers.PreTrainedTokenizerFast,
        "text_encoder_2": transformers.CLIPTextModel,
        "tokenizer_2": transformers.CLIPTokenizer,
        "image_encoder": transformers.SiglipVisionModel,
        "feature_extractor": transformers.SiglipImageProcessor,
        "vae": diffusers.AutoencoderKLHunyuanVideo,
    }
    loaded = {name: kind.from_pretrained(released_folder / name) for name, kind in parts.items()}
    return diffusers.HunyuanVideoFramepackPipeline(**loaded, transformer=None, scheduler=None)


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The parts whose weights are read from now on."""
    seen: list[str] = []

    def watched(folder, part, *arguments):
        seen.append(part)
        return load(folder, part, *arguments)

    load = released.load_module
    for module in ("hunyuan", "hunyuan_vae"):
        monkeypatch.setattr(f"mpgen.encoders.{module}.load_module", watched)
    return seen


def test_the_template_is_that_of_the_released_pipeline(pipeline):
    theirs = sys.modules[type(pipeline).__module__].DEFAULT_PROMPT_TEMPLATE
    assert theirs == {"template": TEMPLATE, "crop_start": TEMPLATE_TOKENS}


@pytest.mark.filterwarnings("ignore:a caption has more than 256 tokens")
@pytest.mark.parametrize("captions", [CAPTIONS, [LONG, CAPTIONS[0]]], ids=["short", "cut"])
def test_text_features_are_those_of_the_released_pipeline(make_encoders, pipeline, captions):
    ours = make_encoders().text.encode(captions)
    with torch.no_grad():
        tokens, pooled, mask = pipeline.encode_prompt(captions, device=torch.device("cpu"))
    valid = mask.bool()[:, : ours.mask.shape[1]]
    assert torch.equal(ours.mask, valid)
    assert not mask[:, ours.mask.shape[1] :].any()
    torch.testing.assert_close(ours.tokens[valid], tokens[:, : valid.shape[1]][valid], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(ours.pooled, pooled, atol=2e-6, rtol=1e-5)
    assert not ours.tokens[~valid].any()
    assert ours.tokens[valid].std() > 0.1


def test_a_long_caption_is_cut_and_an_empty_one_keeps_a_token(make_encoders):
    text = make_encoders().text
    with pytest.warns(UserWarning, match="a caption has more than 256 tokens; the rest of it is not seen"):
        assert text.encode([LONG, ""]).mask.sum(1).tolist() == [CAPTION_TOKENS, 1]


def test_a_caption_that_just_fits_is_not_said_to_be_cut(make_encoders):
    # "!" is a token, the template has one more after it
    features = make_encoders().text.encode([" ".join("!" * (CAPTION_TOKENS - 1))])
    assert features.mask.sum() == CAPTION_TOKENS


def test_the_tokenizer_file_is_read_as_it_is_whatever_class_its_config_names(copied_folder):
    file = copied_folder / "tokenizer" / "tokenizer_config.json"
    before = HunyuanEncoders(copied_folder, "cpu", "float32").text.encode(CAPTIONS)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "LlamaTokenizer"}))
    after = HunyuanEncoders(copied_folder, "cpu", "float32").text.encode(CAPTIONS)
    assert torch.equal(after.mask, before.mask)
    assert torch.equal(after.tokens, before.tokens)


def test_a_caption_has_the_same_features_in_any_batch(make_encoders):
    alone = make_encoders().text.encode(CAPTIONS[:1])
    batch = make_encoders().text.encode([CAPTIONS[2], CAPTIONS[0], CAPTIONS[2]])
    torch.testing.assert_close(batch.tokens[1, : alone.mask.sum()], alone.tokens[0], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(batch.tokens[0], batch.tokens[2], atol=0, rtol=0)


def test_image_features_are_those_of_the_released_pipeline(make_encoders, pipeline, random_clip):
    images = random_clip(2, 1, 48, 32)[:, :, 0]
    with torch.no_grad():
        wanted = pipeline.encode_image(images, device=torch.device("cpu"))
    ours = make_encoders().image.encode(images)
    torch.testing.assert_close(ours, wanted, atol=2e-6, rtol=1e-5)
    assert (ours[0] - ours[1]).abs().max() > 1e-3


def test_widths_come_from_the_configs_without_weights(make_encoders, loads):
    encoders = make_encoders()
    assert (encoders.text.token_width, encoders.text.pooled_width, encoders.image.width) == (24, 18, 20)
    assert (encoders.vae.latent_channels, encoders.vae.spatial_stride) == (5, 8)
    assert not loads
    conditioning = encoders.conditioning(CAPTIONS[:2], torch.zeros(2, 3, 16, 24))
    assert (conditioning.text.shape[2], conditioning.pooled.shape[1], conditioning.image.shape[2]) == (24, 18, 20)


def test_default_dtypes_give_float32_near_that_of_float32(make_encoders, random_clip):
    exact, small = make_encoders(), make_encoders(dtype="bfloat16", vae_dtype="float16")
    clip = random_clip(1, 5)
    for ours, wanted in (
        (small.vae.encode(clip), exact.vae.encode(clip)),
        (small.image.encode(clip[:, :, 0]), exact.image.encode(clip[:, :, 0])),
        (small.text.encode(CAPTIONS).tokens, exact.text.encode(CAPTIONS).tokens),
    ):
        assert ours.dtype == torch.float32
        assert 0 < (ours - wanted).abs().mean() < 0.05 * wanted.abs().mean()


@pytest.mark.parametrize("posterior", ["mode", "sample"])
def test_a_clip_in_the_dtype_of_the_autoencoder_has_the_latents_of_the_float32_one(
    make_encoders, random_clip, posterior
):
    vae = make_encoders(vae_dtype="bfloat16", posterior=posterior).vae
    clip = random_clip(1, 5)
    assert vae.dtype == torch.bfloat16
    torch.testing.assert_close(vae.encode(clip.to(vae.dtype)), vae.encode(clip), atol=0, rtol=0)


def test_a_part_is_read_when_it_is_first_needed_and_kept(make_encoders, loads, random_clip):
    encoders = make_encoders()
    encoders.image.encode(torch.zeros(1, 3, 16, 24))
    assert loads == ["image_encoder"]
    for seed in (1, 2):
        encoders.vae.decode(encoders.vae.encode(random_clip(2, 5, seed=seed)))
    assert loads == ["image_encoder", "vae"]
    encoders.text.encode(CAPTIONS)
    assert loads == ["image_encoder", "vae", "text_encoder", "text_encoder_2"]


def test_the_same_caption_and_image_are_not_encoded_twice(make_encoders, loads):
    encoders, images = make_encoders(offload=True), torch.rand(2, 3, 16, 24)
    first = encoders.conditioning(CAPTIONS[:2], images)
    again = encoders.conditioning(CAPTIONS[1::-1], images.flip(0))
    assert len(loads) == 3
    torch.testing.assert_close(again.image.flip(0), first.image, atol=0, rtol=0)
    torch.testing.assert_close(again.text.flip(0), first.text, atol=0, rtol=0)
    encoders.conditioning(CAPTIONS[1:], images + 0.01)
    assert len(loads) == 6


@pytest.mark.parametrize("offload", [True, False])
def test_weights_live_as_long_as_offloading_says(make_encoders, monkeypatch, random_clip, offload):
    alive: list[weakref.ref] = []
    at_once: list[int] = []

    def watched(folder, part, *arguments):
        alive.append(weakref.ref(load(folder, part, *arguments)))  # dies at once if the caller does not keep it
        module = load(folder, part, *arguments)
        alive[-1] = weakref.ref(module)
        at_once.append(sum(ref() is not None for ref in alive))
        return module

    load = released.load_module
    for module in ("hunyuan", "hunyuan_vae"):
        monkeypatch.setattr(f"mpgen.encoders.{module}.load_module", watched)
    encoders, clip = make_encoders(offload=offload), random_clip(1, 5)
    encoders.vae.encode(clip)
    encoders.conditioning(CAPTIONS, clip[:, :, 0].expand(3, -1, -1, -1))
    assert at_once == ([1, 1, 1, 1] if offload else [1, 2, 3, 4])
    if not offload:
        assert all(ref() is not None for ref in alive)
        encoders.release()
    assert all(ref() is None for ref in alive)
    encoders.vae.encode(clip)
    assert len(alive) == 5


def test_a_use_that_fails_gives_the_memory_back_too():
    part = OnDemand(lambda: torch.nn.Linear(2, 3), offload=True)
    with pytest.raises(RuntimeError, match="shapes"):
        part(lambda module: module(torch.zeros(1, 5)))
    assert not part.loaded


def test_a_fingerprint_follows_weights_and_settings_but_not_places(make_encoders, copied_folder):
    wanted = make_encoders().fingerprint
    settings = make_encoders().init_args
    assert rebuild(Encoders, _plain(settings | {"folder": str(copied_folder), "offload": True})).fingerprint == wanted
    for other in ({"dtype": "float16"}, {"posterior": "sample"}, {"tiling": {"frames": None}}, {"seed": 1}):
        assert rebuild(Encoders, _plain(settings | other)).fingerprint != wanted, other
    weights = copied_folder / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert rebuild(Encoders, _plain(settings | {"folder": str(copied_folder)})).fingerprint != wanted


def test_a_fingerprint_follows_the_tokenizer(make_encoders, copied_folder):
    before = HunyuanEncoders(copied_folder).fingerprint
    file = copied_folder / "tokenizer" / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"]["zebra"] = len(tokenizer["model"]["vocab"])
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    assert HunyuanEncoders(copied_folder).fingerprint != before


def test_the_arguments_make_the_same_encoders_again(make_encoders):
    encoders = make_encoders(posterior="sample", seed=3)
    plain = _plain(encoders.init_args)
    assert json.loads(json.dumps(plain)) == plain
    again = rebuild(Encoders, plain)
    assert (type(again), again.init_args) == (HunyuanEncoders, encoders.init_args)
    assert again.vae.tiling == WHOLE


def test_importing_the_module_imports_no_optional_library():
    program = "import sys, mpgen.encoders.hunyuan as m; m.HunyuanEncoders('nowhere'); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"diffusers", "transformers"} & set(run.stdout.split())


def _plain(init_args: dict) -> dict:
    return {"class_path": "mpgen.encoders.hunyuan.HunyuanEncoders", "init_args": init_args}
