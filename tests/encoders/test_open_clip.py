import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mpgen.checkpoints import rebuild
from mpgen.data.cache import CacheDirectory, CacheSettings
from mpgen.encoders.base import Encoders
from mpgen.encoders.open_clip import OpenClipEncoders
from mpgen.errors import UserError

TEXT = {"context_length": 20, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 2}
SIZES = {
    "tiny-vit": {
        "embed_dim": 14,
        "vision_cfg": {"image_size": [24, 36], "layers": 2, "width": 30, "head_width": 10, "patch_size": 12},
        "text_cfg": TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 14,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 2, "head_width": 16, "patch_size": None},
        "text_cfg": TEXT,
    },
    "tiny-timm-vit": {
        "embed_dim": 14,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "image_size": 224},
        "text_cfg": TEXT,
    },
    "tiny-timm-convolutions": {
        "embed_dim": 14,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "convnext_atto", "timm_pool": "avg", "image_size": 64},
        "text_cfg": TEXT,
    },
}
CAPTIONS = ["a red disc moves left!", "", "!!!? two blue rings " * 20]


@pytest.fixture(scope="module", autouse=True)
def _tiny_models(tmp_path_factory):
    """Small models under names of their own, as open_clip's users add them."""
    folder = tmp_path_factory.mktemp("open_clip")
    for name, sizes in SIZES.items():
        (folder / f"{name}.json").write_text(json.dumps(sizes))
    open_clip.add_model_config(folder)


@pytest.fixture
def encoders() -> OpenClipEncoders:
    return OpenClipEncoders("tiny-vit", device="cpu")


def test_text_tokens_are_those_before_pooling(encoders):
    features = encoders.text.encode(CAPTIONS)
    assert features.mask.sum(1).tolist() == [8, 2, 20]
    network = encoders.text.network(lambda network: network)
    ids = open_clip.get_tokenizer("tiny-vit")(CAPTIONS)
    with torch.no_grad():
        torch.testing.assert_close(features.pooled, network.encode_text(ids), atol=1e-6, rtol=1e-5)
    # CLIP pools by taking its last token and projecting it.
    last = torch.stack([row[mask][-1] for row, mask in zip(features.tokens, features.mask, strict=True)])
    torch.testing.assert_close(last @ network.text_projection, features.pooled, atol=1e-6, rtol=1e-5)
    assert not features.tokens[~features.mask].any()


def test_image_tokens_are_those_of_the_patches_of_the_squeezed_image(encoders):
    images = torch.rand(2, 3, 24, 36) * 2 - 1  # of the tower's own size, so that nothing is squeezed
    network = encoders.image.network(lambda network: network)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (network.visual.image_mean, network.visual.image_std)
    )
    network.visual.output_tokens = True
    with torch.no_grad():
        _, tokens = network.visual(((images + 1) / 2 - mean) / std)
    ours = encoders.image.encode(images)
    assert ours.shape == (2, 6, 30)
    torch.testing.assert_close(ours, network.visual.ln_post(tokens), atol=1e-5, rtol=1e-4)


def test_a_change_at_one_place_moves_the_patch_of_that_place_most(encoders):
    image = torch.zeros(1, 3, 48, 72)
    other = image.clone()
    other[:, :, 24:, 48:] = 1
    change = (encoders.image.encode(other) - encoders.image.encode(image))[0].norm(dim=1)
    assert change.argmax() == 5


@pytest.mark.parametrize("name", SIZES)
def test_widths_are_those_of_the_features_for_every_kind_of_tower(name):
    encoders = OpenClipEncoders(name, device="cpu")
    conditioning = encoders.conditioning(CAPTIONS, torch.rand(3, 3, 16, 24) * 2 - 1)
    assert conditioning.text.shape[2] == encoders.text.token_width == 24
    assert conditioning.pooled.shape[1] == encoders.text.pooled_width == 14
    assert conditioning.image.shape[2] == encoders.image.width
    assert all(torch.isfinite(part).all() for part in (conditioning.text, conditioning.pooled, conditioning.image))


def test_a_caption_has_the_same_features_in_any_batch(encoders):
    alone = OpenClipEncoders("tiny-vit", device="cpu").text.encode(CAPTIONS[:1])
    batch = encoders.text.encode(CAPTIONS[::-1])
    torch.testing.assert_close(batch.tokens[2, :8], alone.tokens[0], atol=1e-6, rtol=1e-5)


def test_random_weights_follow_from_the_seed_and_leave_the_global_draws_alone(encoders):
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    features = encoders.text.encode(CAPTIONS[:1])
    assert torch.equal(torch.rand(1), wanted)
    again = OpenClipEncoders("tiny-vit", device="cpu")
    other = OpenClipEncoders("tiny-vit", device="cpu", seed=1)
    assert torch.equal(again.text.encode(CAPTIONS[:1]).tokens, features.tokens)
    assert not torch.equal(other.text.encode(CAPTIONS[:1]).tokens, features.tokens)
    assert again.fingerprint == encoders.fingerprint != other.fingerprint


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_a_file_are_used(encoders, tmp_path, suffix):
    torch.manual_seed(8)
    model = open_clip.create_model("tiny-vit")
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    ours = OpenClipEncoders("tiny-vit", path, device="cpu")
    with torch.no_grad():
        wanted = model.encode_text(open_clip.get_tokenizer("tiny-vit")(CAPTIONS))
    torch.testing.assert_close(ours.text.encode(CAPTIONS).pooled, wanted, atol=1e-6, rtol=1e-5)
    assert ours.fingerprint != encoders.fingerprint


def test_the_arguments_make_the_same_encoders_again(tmp_path):
    encoders = OpenClipEncoders("tiny-vit", tmp_path / "weights.pt", device="cpu", seed=2)
    plain = {"class_path": "mpgen.encoders.open_clip.OpenClipEncoders", "init_args": encoders.init_args}
    assert rebuild(Encoders, json.loads(json.dumps(plain))).init_args == encoders.init_args


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match=r"trap\.pt cannot be loaded as tiny-vit") as caught:
        OpenClipEncoders("tiny-vit", tmp_path / "trap.pt", device="cpu").text.encode([""])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_random_weights_are_a_caveat_that_the_cache_keeps(tmp_path):
    assert OpenClipEncoders(pretrained=tmp_path / "some.pt").caveat == ""
    directory, settings = CacheDirectory(tmp_path), CacheSettings(32, 32, 24.0, 2, 2)
    directory.begin(settings, "abc", OpenClipEncoders().caveat)
    assert "have random weights" in directory.identity["caveat"]
    assert directory.settings == settings


def test_a_missing_file_and_a_wrong_name_are_told(tmp_path):
    absent = OpenClipEncoders("tiny-vit", tmp_path / "absent.pt", device="cpu")
    for use in (absent.check, lambda: absent.fingerprint, lambda: absent.text.encode([""])):
        with pytest.raises(UserError, match=r"absent\.pt does not exist: wanted a file with weights of tiny-vit"):
            use()
    with pytest.raises(UserError, match="'ViT-B-33' is no model of open_clip: wanted one such as ViT-B-32"):
        OpenClipEncoders("ViT-B-33")
    with pytest.raises(UserError, match="roberta-ViT-B-32: open_clip would download"):
        OpenClipEncoders("roberta-ViT-B-32")


def test_a_tokenizer_that_is_elsewhere_is_told_without_asking_the_network(tmp_path):
    sizes = SIZES["tiny-vit"] | {"text_cfg": TEXT | {"hf_tokenizer_name": "nobody/elsewhere"}}
    (tmp_path / "tiny-elsewhere.json").write_text(json.dumps(sizes))
    open_clip.add_model_config(tmp_path)
    encoders = OpenClipEncoders("tiny-elsewhere", device="cpu")
    with pytest.raises(UserError, match="the tokenizer nobody/elsewhere of tiny-elsewhere is not on this machine"):
        encoders.text.encode([""])
