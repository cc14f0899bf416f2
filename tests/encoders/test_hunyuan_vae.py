import pytest
import torch
from safetensors.torch import load_file

from mpgen.encoders.hunyuan_vae import WHOLE, HunyuanVAE, Tiling, set_tiling
from mpgen.encoders.released import ReleasedFolder
from mpgen.errors import UserError
from mpgen.generation.decoding import stream_clips

SMALL_TILES = Tiling(frames=8, frame_step=4, side_px=16, side_step_px=8)


@pytest.fixture
def make_vae(released_folder):
    def make(**options: object) -> HunyuanVAE:
        return HunyuanVAE(ReleasedFolder(released_folder), torch.device("cpu"), torch.float32, **options)

    return make


@pytest.fixture
def network(released_folder):
    """diffusers' class as it comes."""
    from diffusers import AutoencoderKLHunyuanVideo

    return AutoencoderKLHunyuanVideo.from_pretrained(released_folder / "vae").eval().requires_grad_(False)


@pytest.mark.parametrize("latent_frames", [1, 2, 4, 7])
def test_a_clip_of_4k_plus_1_frames_is_k_plus_1_latent_frames(make_vae, random_clip, latent_frames):
    vae, frames = make_vae(), 4 * latent_frames - 3
    latents = vae.encode(random_clip(2, frames))
    assert latents.shape == (2, 5, latent_frames, 2, 3)
    assert vae.decode(latents).shape == (2, 3, frames, 16, 24)
    assert vae.decode(latents, starts_with_still=False).shape == (2, 3, 4 * latent_frames, 16, 24)


def test_latents_are_the_scaled_mean_of_the_released_network(make_vae, network, random_clip):
    clip = random_clip(2, 5)
    wanted = network.encode(clip).latent_dist.mode() * network.config.scaling_factor
    torch.testing.assert_close(make_vae().encode(clip), wanted, atol=1e-6, rtol=1e-5)


def test_frames_are_those_of_the_released_network(make_vae, network, random_clip):
    latents = 3 * random_clip(2, 4).repeat(1, 2, 1, 1, 1)[:, :5, :, :2, :3]
    wanted = network.decode(latents / network.config.scaling_factor).sample
    torch.testing.assert_close(make_vae().decode(latents), wanted.clamp(-1, 1), atol=2e-5, rtol=0)


def test_a_start_image_encoded_alone_is_not_the_first_latent_of_its_clip(make_vae, random_clip):
    vae, clip = make_vae(), random_clip(1, 9)
    other = torch.cat([clip[:, :, :5], -clip[:, :, 5:]], 2)
    alone, within = vae.encode(clip[:, :, :1]), vae.encode(clip)[:, :, :1]
    assert (alone - within).abs().max() > 1e-3
    assert (within - vae.encode(other)[:, :, :1]).abs().max() > 1e-3  # frame 0 sees later ones: it is not causal
    torch.testing.assert_close(alone, vae.encode(other[:, :, :1]), atol=0, rtol=0)


def test_a_video_has_the_same_latents_alone_and_in_a_batch(make_vae, random_clip):
    vae, clip = make_vae(), random_clip(3, 5)
    torch.testing.assert_close(vae.encode(clip)[1:2], vae.encode(clip[1:2]), atol=0, rtol=0)


def test_nothing_is_cut_in_time_unless_it_is_asked_for(make_vae, network, random_clip):
    clip = random_clip(1, 25)
    whole = network.quant_conv(network.encoder(clip)).chunk(2, 1)[0] * network.config.scaling_factor
    ours = make_vae(tiling=WHOLE).encode(clip)
    torch.testing.assert_close(ours, whole, atol=1e-6, rtol=1e-5)
    untouched = network.encode(clip).latent_dist.mode() * network.config.scaling_factor
    assert (ours - untouched).abs().max() > 1e-3  # diffusers cuts by itself
    decoded = network.decoder(network.post_quant_conv(ours / network.config.scaling_factor)).clamp(-1, 1)
    torch.testing.assert_close(make_vae(tiling=WHOLE).decode(ours), decoded, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("frames", [13, 25])
def test_tiles_are_those_of_the_released_code(make_vae, network, random_clip, frames):
    network.enable_tiling(16, 16, 8, 8, 8, 4)
    vae, clip = make_vae(tiling=SMALL_TILES), random_clip(1, frames, 24, 32)
    latents = vae.encode(clip)
    wanted = network.encode(clip).latent_dist.mode() * network.config.scaling_factor
    torch.testing.assert_close(latents, wanted, atol=1e-6, rtol=1e-5)
    assert (latents - make_vae(tiling=WHOLE).encode(clip)).abs().max() > 1e-3
    decoded = network.decode(latents / network.config.scaling_factor).sample.clamp(-1, 1)
    torch.testing.assert_close(vae.decode(latents), decoded, atol=1e-6, rtol=1e-5)


def test_the_default_tiles_have_the_released_sizes(network):
    before = {name: value for name, value in vars(network).items() if name.startswith(("tile_", "use_framewise"))}
    set_tiling(network, Tiling())
    assert {name: getattr(network, name) for name in before} == before
    assert network.use_tiling


@pytest.mark.parametrize(
    "sizes", [{"frames": 10}, {"frame_step": 20}, {"side_px": 100}, {"side_step_px": 0}, {"side_step_px": 320}]
)
def test_tiles_that_do_not_fit_the_strides_are_refused(sizes):
    with pytest.raises(ValueError, match="wanted multiples of"):
        Tiling(**sizes)


def test_draws_have_the_spread_of_the_posterior_and_follow_from_clip_and_seed(make_vae, network, random_clip):
    clip = random_clip(2, 5, 32, 48)
    drawn = make_vae(posterior="sample").encode(clip)
    assert torch.equal(make_vae(posterior="sample").encode(clip[1:]), drawn[1:])
    assert not torch.equal(make_vae(posterior="sample", seed=1).encode(clip), drawn)
    distribution = network.encode(clip).latent_dist
    noise = (drawn / network.config.scaling_factor - distribution.mode()) / distribution.std
    assert 0.9 < noise.std() < 1.1
    assert abs(noise.mean()) < 0.1
    assert (noise[0] - noise[1]).abs().mean() > 0.5  # other clips, other draws


@pytest.mark.parametrize(("frames", "height", "width"), [(4, 16, 24), (10, 16, 24), (5, 12, 24), (5, 16, 20)])
def test_a_clip_of_another_size_is_an_error_that_names_it(make_vae, random_clip, frames, height, width):
    with pytest.raises(UserError, match=f"{frames} frames of {width}x{height}: wanted 1 \\+ 4k"):
        make_vae().encode(random_clip(1, frames, height, width))


def test_decoded_pixels_stay_in_range(make_vae, network, random_clip):
    latents = 200 * random_clip(1, 2).repeat(1, 2, 1, 1, 1)[:, :5, :, :2, :3]
    loud = network.decoder.conv_out.conv.weight * 50
    vae = make_vae()
    vae.network(lambda own: own.decoder.conv_out.conv.weight.copy_(loud))
    clip = vae.decode(latents)
    assert (clip.min(), clip.max()) == (-1, 1)


def test_sections_are_decoded_in_windows_of_18_and_faded_over_33_frames_as_published(make_vae, network, random_clip):
    """The loop of the released F1 demo, written out: decode what is there, then 18 latents at a time, and fade."""
    vae = make_vae()
    latents = 2 * random_clip(1, 28).repeat(1, 2, 1, 1, 1)[:, :5, :, :2, :3]
    sections = latents[:, :, 1:].split(9, 2)
    ours = torch.cat(list(stream_clips(vae, latents[:, :, :1], sections)), 2)

    wanted = vae.decode(latents[:, :, :10])
    for end in (19, 28):
        current = vae.decode(latents[:, :, end - 18 : end])
        weight = torch.linspace(1, 0, 33)[:, None, None]
        faded = weight * wanted[:, :, -33:] + (1 - weight) * current[:, :, :33]
        wanted = torch.cat([wanted[:, :, :-33], faded, current[:, :, 33:]], 2)
    assert ours.shape[2] == 1 + 36 * 3
    torch.testing.assert_close(ours[:, :, 1:], wanted[:, :, 1:], atol=1e-5, rtol=1e-5)


def test_weights_in_the_files_are_those_that_are_used(make_vae, released_folder):
    stored = load_file(released_folder / "vae" / "diffusion_pytorch_model.safetensors")
    used = make_vae().network(lambda network: {k: v.clone() for k, v in network.state_dict().items()})
    assert stored.keys() == used.keys()
    assert all(torch.equal(stored[name], used[name]) for name in stored)
