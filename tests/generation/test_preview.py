"""Previews: a linear map that is fitted to an autoencoder, and pictures of a section while it is denoised."""

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command_line import generate
from einops import rearrange
from PIL import Image

from mpgen.encoders.base import VideoAutoencoder
from mpgen.encoders.preview import LinearPreview, fit_preview
from mpgen.encoders.tiny import TinyVAE
from mpgen.generation import command
from mpgen.generation import preview as preview_module
from mpgen.generation.preview import SHARE, Previewing, preview_of, side_by_side, world_clips


class Shrinking(VideoAutoencoder):
    """Every 2 x 2 pixels of the mean of four frames as twelve channels: a linear map reads them exactly."""

    temporal_stride, spatial_stride, latent_channels, overlap_latent_frames = 4, 2, 12, 0

    def encode(self, clip):
        groups = rearrange(clip[:, :, 1:], "b c (t f) h w -> b c t f h w", f=4).mean(3)
        still = clip[:, :, :1]
        return rearrange(torch.cat([still, groups], 2), "b c t (h y) (w x) -> b (c y x) t h w", y=2, x=2)

    def decode(self, latents, starts_with_still=True):
        raise NotImplementedError


@pytest.fixture(scope="module")
def clips():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, 9, 12, 16, generator=generator) * 2 - 1 for _ in range(8)]


def test_a_linear_autoencoder_is_read_exactly(clips):
    vae = Shrinking()
    fitted = fit_preview(vae, clips[:6], clips[6:])
    assert fitted.error_db > 50
    assert fitted.explained > 0.9999
    wanted = rearrange(clips[7][:, :, 1:], "b c (t f) h w -> b c t f h w", f=4).mean(3)
    assert fitted(vae.encode(clips[7])[:, :, 1:]) == pytest.approx(wanted.numpy(), abs=2e-3)


def test_what_is_stored_is_what_was_fitted_and_other_files_are_not_taken(clips, tmp_path):
    vae, path = Shrinking(), tmp_path / "deep" / "preview.npz"
    fitted = fit_preview(vae, clips[:4], clips[6:])
    fitted.save(path)
    read = LinearPreview.load(path)
    assert torch.equal(read.weight, fitted.weight)
    assert (read.error_db, read.explained) == (fitted.error_db, fitted.explained)
    assert read.fits(vae)
    assert not read.fits(TinyVAE())
    for content in (b"", b"no archive", path.read_bytes()[:300]):
        (tmp_path / "broken.npz").write_bytes(content)
        assert LinearPreview.load(tmp_path / "broken.npz") is None
    assert LinearPreview.load(tmp_path / "none.npz") is None


def test_an_autoencoder_without_a_map_gets_one_beside_its_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(preview_module, "FITTED_TO", 2)
    vae = TinyVAE()
    vae.preview_file = tmp_path / "vae_preview.npz"
    fitted = preview_of(vae)
    assert torch.equal(preview_of(vae).weight, fitted.weight)
    assert vae.preview_file.exists()
    (tmp_path / "file").touch()
    vae.preview_file = tmp_path / "file" / "cannot.npz"
    assert torch.equal(preview_of(vae).weight, fitted.weight)


def test_the_shipped_map_has_the_error_that_it_states():
    vae = TinyVAE()
    preview = preview_of(vae)
    clip = next(world_clips(vae, 1, 99))
    latents = vae.encode(clip)[:, :, 1:]
    wanted = rearrange(clip[:, :, 1:], "b c (t f) h w -> b c t f h w", f=4).mean(3)
    error_db = -10 * torch.log10(F.mse_loss(preview(latents), wanted) / 4)
    assert float(error_db) == pytest.approx(preview.error_db, abs=4)
    assert preview.error_db > 26


def test_previews_never_take_more_than_their_share(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    shown = []

    def slow(latents):
        now[0] += 1.0
        return torch.zeros(1, 3, 2, 4, 6)

    previewing = Previewing(slow, shown.append)
    for _ in range(2000):
        previewing.denoised(range(1), lambda: torch.zeros(1, 16, 2, 1, 1))
        now[0] += 0.25
    assert shown[0].shape == (4, 12, 3)
    assert len(shown) / now[0] == pytest.approx(SHARE, rel=0.15)


def test_the_last_preview_of_a_section_is_nearly_its_picture(trained, tmp_path, monkeypatch):
    shown, strips = command.PreviewFile, []

    class Kept(shown):
        def denoised(self, sections, clean):
            self.began, self.spent = 0.0, 0.0  # at every step
            super().denoised(sections, clean)
            strips.append(np.array(Image.open(self.path)))

    monkeypatch.setattr(command, "PreviewFile", Kept)
    generate(tmp_path / "a.mp4", trained, scene="bounce", seconds=0.6, steps=3, preview="true")
    assert [strip.shape for strip in strips] == [(32, 64, 3)] * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mp4"]


def test_frames_stand_side_by_side_in_the_order_of_time():
    clip = torch.arange(3.0)[None, None, :, None, None].expand(1, 3, 3, 2, 4) - 1
    strip = side_by_side(clip)
    assert strip.shape == (2, 12, 3)
    assert [*strip[0, ::4, 0]] == [0, 128, 255]
