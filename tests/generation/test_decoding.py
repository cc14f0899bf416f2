import pytest
import torch

from mpgen.encoders.base import VideoAutoencoder
from mpgen.encoders.tiny import TinyVAE
from mpgen.generation.decoding import stream_clips


class Counting(VideoAutoencoder):
    """Latent frame k holds k and decodes to the numbers of its pixel frames, plus `step` for every decoding before."""

    temporal_stride = 4
    spatial_stride = 1
    latent_channels = 1

    def __init__(self, overlap: int, step: float = 0.0) -> None:
        self.overlap_latent_frames = overlap
        self.step = step
        self.lengths: list[int] = []

    def encode(self, clip):
        raise NotImplementedError

    def decode(self, latents, starts_with_still=True):
        last = 4 * latents[:, :, :, None].expand(-1, 3, -1, -1, -1, -1)
        frames = (last - torch.arange(3, -1, -1.0)[:, None, None]).flatten(2, 3)
        frames = frames + self.step * len(self.lengths)
        self.lengths.append(latents.shape[2])
        return frames[:, :, 3:] if starts_with_still else frames


def numbered(sections: int, width: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The start image, which is latent frame 0, and the sections after it; two videos of 2 x 3 latents."""
    latents = torch.arange(1.0 + sections * width)[None, None, :, None, None].expand(2, 1, -1, 2, 3)
    return latents[:, :, :1], [latents[:, :, 1 + n * width : 1 + (n + 1) * width] for n in range(sections)]


@pytest.mark.parametrize("overlap", [0, 1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("sections", [0, 1, 2, 5])
def test_every_frame_comes_once_and_in_order(overlap, sections):
    vae = Counting(overlap)
    clips = list(stream_clips(vae, *numbered(sections, 3)))
    assert vae.lengths == [1, *(min(overlap, 1 + 3 * number) + 3 for number in range(sections))]
    assert clips[0].shape[2] == 1
    frames = torch.cat(clips, 2)
    assert frames.shape == (2, 3, 1 + 4 * 3 * sections, 2, 3)
    torch.testing.assert_close(frames[0, 0, :, 0, 0], torch.arange(1.0 + 12 * sections))


@pytest.mark.parametrize("overlap", [0, 3])
def test_sections_that_stand_alone_are_decoded_alone(overlap):
    vae = Counting(overlap)
    start, sections = numbered(3, 3)
    clips = list(stream_clips(vae, start, sections, alone=True))
    assert vae.lengths == [1, 3, 3, 3]
    assert [clip.shape[2] for clip in clips] == [1, 9, 9, 9]
    torch.testing.assert_close(clips[2][0, 0, :, 0, 0], torch.arange(16.0, 25.0))  # from latent frame 4, which is 16


@pytest.mark.parametrize("overlap", [1, 3, 5])
def test_what_goes_on_from_a_given_video_begins_right_after_it(overlap):
    start, sections = numbered(3, 3)
    given, *new = [torch.cat([start, sections[0]], 2), *sections[1:]]
    clips = list(stream_clips(Counting(overlap), given, new))
    assert clips[0].shape[2] == 13
    frames = torch.cat(clips, 2)
    torch.testing.assert_close(frames[0, 0, :, 0, 0], torch.arange(1.0 + 36))


def test_a_causal_autoencoder_decodes_every_section_by_itself():
    vae = TinyVAE()
    latents = vae.encode(torch.rand(1, 3, 25, 16, 24) * 2 - 1)
    clips = torch.cat(list(stream_clips(vae, latents[:, :, :1], latents[:, :, 1:].split(2, 2))), 2)
    torch.testing.assert_close(clips, vae.decode(latents), atol=1e-5, rtol=1e-5)


def test_released_sections_fade_over_33_frames_in_a_line_from_old_to_new():
    width, sections = 9, 3
    vae = Counting(overlap=width, step=1000.0)
    frames = torch.cat(list(stream_clips(vae, *numbered(sections, width))), 2)[0, 0, :, 0, 0]
    offset = frames - torch.arange(len(frames))
    # Decodings 1, 2 and 3 make the sections (0 made the start frame); each is faded in over the last 33 frames before.
    first_fade, second_fade = offset[4:37], offset[40:73]
    torch.testing.assert_close(offset[1:4], torch.full((3,), 1000.0))
    torch.testing.assert_close(first_fade, torch.linspace(1000, 2000, 33))
    torch.testing.assert_close(offset[37:40], torch.full((3,), 2000.0))
    torch.testing.assert_close(second_fade, torch.linspace(2000, 3000, 33))
    torch.testing.assert_close(offset[73:], torch.full((36,), 3000.0))
    assert vae.lengths == [1, 10, 18, 18]


def test_frames_come_while_sections_are_made_and_none_are_kept():
    asked = []
    start, made = numbered(6, 3)

    def sections():
        for number, section in enumerate(made):
            asked.append(number)
            yield section

    clips = stream_clips(Counting(overlap=3), start, sections())
    next(clips)
    assert asked == []
    got = 0
    for count, clip in enumerate(clips, start=1):
        got += clip.shape[2]
        assert len(asked) <= count
        assert got >= 12 * len(asked) - (4 * 3 - 3)  # at most the overlap is held back
