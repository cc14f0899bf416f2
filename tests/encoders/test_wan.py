"""Wan's encoders against the released pipeline's, on tiny random parts that the libraries wrote themselves."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from mpgen.conditioning import Widths
from mpgen.data.build import build_cache
from mpgen.data.cache import CacheSettings
from mpgen.data.check import check_cache
from mpgen.encoders.registry import open_pipeline
from mpgen.encoders.released import ReleasedFolder
from mpgen.encoders.wan import CAPTION_TOKENS, PARTS, WanEncoders
from mpgen.encoders.wan_vae import WanVAE
from mpgen.errors import UserError

CPU = torch.device("cpu")
CAPTIONS = ["a red disc  moves left.", "", "Two blue rings &amp; one wall"]
WORDS = "a red disc moves left . Two blue rings & one wall"
VAES = {
    "2.1": {"z_dim": 4, "latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.5, 0.7, 1.0, 2.0]},
    "2.2": {
        "z_dim": 6,
        "latents_mean": [0.1, -0.2, 0.3, 0.0, 0.5, -0.5],
        "latents_std": [1.5, 0.7, 1.0, 2.0, 1.0, 0.5],
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "decoder_base_dim": 6,
        "scale_factor_spatial": 16,
    },
}


def write_vae(folder: Path, version: str) -> None:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(3)
    vae = AutoencoderKLWan(base_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, **VAES[version])
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    vae.save_pretrained(folder / "vae")


def write_wan_encoders(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    vocabulary = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *dict.fromkeys(WORDS.split())])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    ).save_pretrained(folder / "tokenizer")
    torch.manual_seed(5)
    config = UMT5Config(
        vocab_size=len(vocabulary), d_model=20, d_kv=6, d_ff=24, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu", dropout_rate=0.0, tie_word_embeddings=False,
    )  # fmt: skip
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    write_vae(folder, "2.1")


@pytest.fixture(scope="module")
def wan_folder(tmp_path_factory) -> Path:
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("released") / "Wan"
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that write it
        write_wan_encoders(folder)
    return folder


@pytest.fixture(scope="module")
def encoders(wan_folder) -> WanEncoders:
    return WanEncoders(wan_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=VAES)
def both(request, tmp_path_factory):
    """The autoencoder behind our protocol, and diffusers' own."""
    diffusers = pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng(devices=[]):
        write_vae(folder, request.param)
    own = diffusers.AutoencoderKLWan.from_pretrained(folder / "vae").eval().requires_grad_(False)
    return WanVAE(ReleasedFolder(folder, PARTS), CPU, torch.float32), own


def moments(own) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(own.config[f"latents_{name}"]).view(1, -1, 1, 1, 1) for name in ("mean", "std"))


def test_encoding_and_decoding_are_diffusers(both, random_clip):
    vae, own = both
    side = vae.spatial_stride
    clip, (mean, std) = random_clip(2, 9, 2 * side, 3 * side), moments(own)
    wanted = (own.encode(clip).latent_dist.mode() - mean) / std
    latents = vae.encode(clip)
    assert latents.shape == (2, vae.latent_channels, 3, 2, 3)
    torch.testing.assert_close(latents, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(vae.decode(latents), own.decode(wanted * std + mean).sample, atol=1e-5, rtol=0)


def test_decoding_in_parts_is_decoding_at_once(both, random_clip):
    vae, _ = both
    latents = torch.randn(2, vae.latent_channels, 7, 2, 3, generator=torch.Generator().manual_seed(0))
    whole = vae.decode(latents)
    assert whole.shape[2] == 1 + 4 * 6
    first, second = vae.stream(), vae.stream()  # neither disturbs the other
    parts = [first(part) for part in latents.split([1, 2, 1, 3], 2)]
    assert [part.shape[2] for part in parts] == [1, 8, 4, 12]
    torch.testing.assert_close(torch.cat(parts, 2), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(second(latents[:, :, :2]), whole[:, :, :5], atol=1e-5, rtol=0)


def test_the_first_latent_of_a_video_is_that_of_its_first_frame_and_later_frames_change_nothing_before(
    both, random_clip
):
    vae, _ = both
    clip = random_clip(1, 13, vae.spatial_stride, vae.spatial_stride)
    whole = vae.encode(clip)
    torch.testing.assert_close(vae.encode(clip[:, :, :1]), whole[:, :, :1], atol=1e-5, rtol=0)
    torch.testing.assert_close(vae.encode(clip[:, :, :9]), whole[:, :, :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(vae.decode(whole[:, :, :2]), vae.decode(whole)[:, :, :5], atol=1e-5, rtol=0)


def test_only_a_few_frames_are_encoded_at_a_time(both, random_clip, count_calls):
    vae, _ = both
    vae.encode(random_clip(1, 1, vae.spatial_stride, vae.spatial_stride))
    calls = vae.network(lambda network: count_calls(network.encoder, "forward"))
    vae.encode(random_clip(1, 13, vae.spatial_stride, vae.spatial_stride))
    assert [given[0].shape[2] for given in calls] == [1, 4, 4, 4]


@pytest.mark.parametrize(("frames", "height"), [(2, 16), (5, 12)])
def test_clips_that_do_not_fit_are_refused(both, random_clip, frames, height):
    with pytest.raises(UserError, match=rf"{frames} frames .*wanted 1 \+ 4k frames, sides in multiples of"):
        both[0].encode(random_clip(1, frames, height, 16))


def test_text_is_that_of_the_released_pipeline(wan_folder, encoders):
    import diffusers
    import transformers

    pipeline = diffusers.HeliosPipeline(
        transformers.AutoTokenizer.from_pretrained(wan_folder / "tokenizer"),
        transformers.UMT5EncoderModel.from_pretrained(wan_folder / "text_encoder").eval(),
        diffusers.AutoencoderKLWan.from_pretrained(wan_folder / "vae"),
        scheduler=None, transformer=None,
    )  # fmt: skip
    with torch.no_grad():
        wanted, mask = pipeline._get_t5_prompt_embeds(CAPTIONS, max_sequence_length=CAPTION_TOKENS)
    features = encoders.text.encode(CAPTIONS)
    assert features.mask.sum(1).tolist() == mask.sum(1).tolist() == [7, 1, 7]
    assert features.pooled is None
    length = features.tokens.shape[1]
    torch.testing.assert_close(features.tokens, wanted[:, :length], atol=1e-5, rtol=0)
    assert not wanted[:, length:].any()


def test_a_caption_that_is_too_long_is_cut_and_said(encoders):
    with pytest.warns(UserWarning, match="more than 512 tokens"):
        features = encoders.text.encode(["red " * 600])
    assert features.tokens.shape[1] == CAPTION_TOKENS


def test_they_have_neither_image_features_nor_a_pooled_text(encoders, random_clip):
    assert encoders.widths == Widths(latents=4, text=20)
    conditioning = encoders.conditioning(CAPTIONS, random_clip(3, 1)[:, :, 0])
    assert conditioning.pooled is None
    assert conditioning.image is None
    assert conditioning.to(dtype=torch.bfloat16).text.dtype == torch.bfloat16


def test_a_folder_with_wans_autoencoder_gets_wans_encoders(wan_folder, released_folder):
    assert isinstance(open_pipeline(wan_folder, CPU, offload=False), WanEncoders)
    assert not isinstance(open_pipeline(released_folder, CPU, offload=False), WanEncoders)


def test_another_autoencoder_than_the_config_expects_is_said(wan_folder):
    assert WanEncoders(wan_folder, spatial_stride=16).vae.expected_stride == 16
    WanEncoders(wan_folder, spatial_stride=8).check()
    with pytest.raises(UserError, match=r"scale_factor_spatial is 8, wanted 16 \(data\.encoders\.spatial_stride\)"):
        WanEncoders(wan_folder, spatial_stride=16).check()


def test_a_missing_part_is_said_in_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"vae/config.json is missing: wanted the folder vae of the released BestWishYsh"
    ):
        WanEncoders(tmp_path).check()
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLHunyuanVideo"}))
    with pytest.raises(UserError, match="wanted 'AutoencoderKLWan' as in BestWishYsh"):
        WanEncoders(tmp_path).check()


def test_a_cache_of_them_holds_what_they_give_and_is_read_again(encoders, small_world, tmp_path):
    from mpgen.data.curriculum import Group
    from mpgen.data.dataset import CachedVideos
    from mpgen.data.manifest import read_training_records

    settings = CacheSettings(32, 32, 24.0, max_sections=1, section_latent_frames=2)
    records, _ = read_training_records(small_world / "manifest.csv")
    index = build_cache(records[:2], encoders, settings, tmp_path, progress=False)
    assert len(index.entries) == 2
    batch = CachedVideos(index.entries, 2)[Group(1, (0, 1))]
    assert batch.conditioning.pooled is None
    assert batch.conditioning.image is None
    found = check_cache(records[:2], index.directory, progress=False)
    assert (found.findings, found.videos) == ((), 2)
    assert batch.to("cpu").latents.shape == (2, 4, 2, 4, 4)
