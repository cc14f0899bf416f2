import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpgen.encoders import tiny
from mpgen.encoders.tiny import TinyEncoders, TinyImage, TinyText, TinyVAE
from mpgen.errors import UserError
from mpgen.generation.pipeline import to_clip
from mpgen.world.families import sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings


@pytest.fixture(scope="module")
def vae() -> TinyVAE:
    return TinyVAE()


@pytest.fixture(scope="module")
def make_world_clip():
    def make(family: str, frames: int = 13, size_px: int = 64):
        scene = sample_scene(WorldSettings(size_px=size_px), family, frames, (7,))
        return to_clip(render_scene(scene, size_px))

    return make


def random_clip(videos: int, frames: int, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(videos, 3, frames, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_latents_have_a_frame_for_the_start_image_and_one_for_every_four_after(vae):
    latents = vae.encode(random_clip(2, 13))
    assert latents.shape == (2, 16, 4, 2, 3)
    assert vae.decode(latents).shape == (2, 3, 13, 16, 24)
    assert vae.decode(latents[:, :, 1:], starts_with_still=False).shape == (2, 3, 12, 16, 24)


def test_a_latent_frame_sees_its_own_four_pixel_frames_alone(vae):
    clip = random_clip(1, 13)
    for changed, latent in ((0, 0), (1, 1), (4, 1), (5, 2), (12, 3)):
        other = clip.clone()
        other[:, :, changed] *= -1
        difference = (vae.encode(other) - vae.encode(clip)).abs().amax((0, 1, 3, 4))
        assert difference[latent] > 0.01
        assert float(difference.sum() - difference[latent]) < 1e-4


def test_latent_frame_0_is_that_of_the_still(vae):
    clip = random_clip(2, 9)
    torch.testing.assert_close(vae.encode(clip)[:, :, :1], vae.encode(clip[:, :, :1]), atol=1e-5, rtol=1e-5)


def test_sections_decode_by_themselves_as_they_do_together(vae):
    latents = vae.encode(random_clip(1, 17))
    pieces = [
        vae.decode(latents[:, :, :1]),
        vae.decode(latents[:, :, 1:3], False),
        vae.decode(latents[:, :, 3:], False),
    ]
    torch.testing.assert_close(torch.cat(pieces, 2), vae.decode(latents), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["occlude", "panback", "steady", "bounce"])
def test_the_world_survives_encoding_and_decoding(vae, make_world_clip, family):
    clip = make_world_clip(family, 33)
    error = (vae.decode(vae.encode(clip)) - clip).square().mean().item() / 4  # of pixels in [0, 1]
    assert -10 * math.log10(error) > 25


def test_latents_of_the_world_are_about_standard(vae, make_world_clip):
    latents = torch.cat([vae.encode(make_world_clip(family)) for family in ("occlude", "panback", "steady", "bounce")])
    assert 0.4 < float(latents.std()) < 2.5
    assert abs(float(latents.mean())) < 0.7


@pytest.mark.parametrize(("frames", "height", "width"), [(4, 16, 24), (10, 16, 24), (5, 12, 24), (5, 16, 20)])
def test_a_clip_of_another_size_is_an_error_that_names_it(vae, frames, height, width):
    with pytest.raises(UserError, match=f"{frames} frames of {width}x{height}: wanted 1 \\+ 4k"):
        vae.encode(random_clip(1, frames, height, width))


def test_decoded_pixels_stay_in_range(vae):
    clip = vae.decode(20 * torch.randn(1, 16, 2, 2, 3))
    assert float(clip.min()) >= -1
    assert float(clip.max()) <= 1


def test_the_same_words_have_the_same_vectors_in_any_batch():
    text = TinyText()
    alone, both = (
        text.encode(["a red disc moves left."]),
        text.encode(["two blue rings. one hides. it is back.", "a red disc moves left."]),
    )
    length = int(alone.mask.sum())
    assert both.mask.sum(1)[1] == length
    torch.testing.assert_close(both.tokens[1, :length], alone.tokens[0, :length])
    torch.testing.assert_close(both.pooled[1], alone.pooled[0])
    assert not both.tokens[1][~both.mask[1]].any()


def test_one_other_word_gives_other_features():
    red, blue = TinyText().encode(["a red disc"]), TinyText().encode(["a blue disc"])
    assert (red.tokens - blue.tokens).abs().max() > 0.1
    assert (red.pooled - blue.pooled).abs().max() > 0.1


def test_a_sentence_is_one_token_and_an_empty_caption_has_one_too():
    features = TinyText().encode(["", "a red disc. it moves to the left.", " . "])
    assert features.mask.sum(1).tolist() == [1, 2, 1]
    assert features.mask.dtype == torch.bool


def test_features_have_the_widths_that_the_encoders_declare(make_world_clip):
    encoders = TinyEncoders()
    images = make_world_clip("bounce")[:, :, 0].expand(2, -1, -1, -1)
    conditioning = encoders.conditioning(["a red disc", "nothing"], images)
    assert conditioning.text.shape[::2] == (2, encoders.text.token_width)
    assert conditioning.pooled.shape == (2, encoders.text.pooled_width)
    assert conditioning.image.shape == (2, 4, encoders.image.width)
    assert encoders.vae.encode(images[:, :, None]).shape[1] == encoders.vae.latent_channels


def test_image_features_tell_where_and_what():
    image = torch.zeros(1, 3, 16, 24)
    image[:, 0, 8:, 12:] = 1  # red, below on the right
    before, after = TinyImage().encode(torch.zeros(1, 3, 16, 24))[0], TinyImage().encode(image)[0]
    assert (after - before).abs().amax(1).tolist() == [0, 0, 0, 2]
    assert len({tuple(place) for place in before[:, 48:].tolist()}) == 4


def test_other_weights_give_another_fingerprint(tmp_path, monkeypatch):
    before = TinyEncoders().fingerprint
    assert TinyEncoders().fingerprint == before
    weights = load_file(tiny.WEIGHTS)
    weights["latent_mean"] = weights["latent_mean"] + 1
    save_file(weights, tmp_path / "other.safetensors")
    monkeypatch.setattr(tiny, "WEIGHTS", tmp_path / "other.safetensors")
    assert TinyEncoders().fingerprint != before
    shutil.copy(tmp_path / "other.safetensors", tmp_path / "copy.safetensors")
    again = TinyEncoders().fingerprint
    monkeypatch.setattr(tiny, "WEIGHTS", tmp_path / "copy.safetensors")
    assert TinyEncoders().fingerprint == again


@pytest.mark.parametrize("negative", [None, "caf\udce9"])
def test_a_prompt_that_is_no_valid_unicode_is_refused_in_a_line(negative):
    with pytest.raises(UserError, match=r"'caf.*udce9' is no valid Unicode"):
        TinyEncoders().conditioning(["caf\udce9" if negative is None else "a disc"], None, negative)
