"""Encoders of plain arithmetic, whose autoencoder looks ahead: company at encoding shows."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F

from mpgen.encoders.base import Encoders, ImageEncoder, TextEncoder, TextFeatures, VideoAutoencoder


class LookingAheadVAE(VideoAutoencoder):
    temporal_stride = 4
    spatial_stride = 8
    latent_channels = 3
    overlap_latent_frames = 0

    def __init__(self) -> None:
        self.calls = 0
        self.broken = False

    def encode(self, clip):
        self.calls += 1
        small = F.avg_pool3d(clip, (1, 8, 8))
        latents = small[:, :, ::4] + 0.1 * small.mean(2, keepdim=True)
        return latents * torch.nan if self.broken else latents

    def decode(self, latents, starts_with_still=True):
        raise NotImplementedError


class WordLengths(TextEncoder):
    token_width = 2
    pooled_width = 5

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, captions: Sequence[str]) -> TextFeatures:
        self.calls += 1
        lengths = [[len(word) for word in caption.split()] or [0] for caption in captions]
        longest = max(len(row) for row in lengths)
        tokens = torch.tensor([row + [99] * (longest - len(row)) for row in lengths]).float()
        mask = torch.tensor([[place < len(row) for place in range(longest)] for row in lengths])
        pooled = torch.tensor([[sum(row)] * 5 for row in lengths]).float()
        return TextFeatures(tokens[:, :, None].expand(-1, -1, 2), mask, pooled)


class MeanColour(ImageEncoder):
    width = 3

    def encode(self, images):
        return images.mean((2, 3))[:, None]


class PlainEncoders(Encoders):
    def __init__(self, name: str = "plain") -> None:
        self.vae = LookingAheadVAE()
        self.text = WordLengths()
        self.image = MeanColour()
        self.name = name

    @property
    def fingerprint(self) -> str:
        return self.name


@pytest.fixture
def encoders() -> PlainEncoders:
    return PlainEncoders()


@pytest.fixture
def other_encoders() -> PlainEncoders:
    return PlainEncoders("other")
