"""Small videos, and encoders of plain arithmetic, whose autoencoder looks ahead: company at encoding shows."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from av.video.frame import VideoFrame

from mpgen.data.video import VideoWriter
from mpgen.encoders.base import Encoders, ImageEncoder, TextEncoder, TextFeatures, VideoAutoencoder

LEVEL_OF_FRAME = 5  # frame k of a test video is grey 10 + 5 k, so a picture tells which frame it was


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


@pytest.fixture
def frame_of() -> Callable[[np.ndarray], list[int]]:
    """Which frames of a test video these are."""
    return lambda frames: [round((float(frame.mean()) - 10) / LEVEL_OF_FRAME) for frame in frames]


def grey_frames(num_frames: int, height_px: int, width_px: int) -> np.ndarray:
    levels = (10 + LEVEL_OF_FRAME * np.arange(num_frames)).clip(0, 255).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height_px, width_px, 3))


@pytest.fixture
def make_video() -> Callable[..., Path]:
    """Writes a video by our own writer."""

    def make(path: Path, num_frames: int = 21, height_px: int = 16, width_px: int = 24, fps: float | int = 24) -> Path:
        with VideoWriter(path, fps, height_px, width_px) as writer:
            for frame in grey_frames(num_frames, height_px, width_px):
                writer.write(frame)
        return path

    return make


@pytest.fixture
def make_foreign_video() -> Callable[..., Path]:
    """Writes a video as others might: any time stamps, shape of pixels, container, place of the index."""

    def make(
        path: Path,
        ticks: Sequence[int],
        ticks_per_second: int = 24,
        frames: np.ndarray | None = None,
        pix_fmt: str = "yuv420p",
        sample_aspect_ratio: Fraction | None = None,
        movflags: str = "",
        container_format: str = "mp4",
    ) -> Path:
        frames = grey_frames(len(ticks), 16, 24) if frames is None else frames
        options = {"movflags": movflags} if movflags else {}
        with av.open(str(path), "w", format=container_format, options=options) as container:
            stream = container.add_stream("libx264", rate=ticks_per_second)
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
            stream.options = {"crf": "10", "bf": "0", "threads": "1"}
            stream.codec_context.time_base = Fraction(1, ticks_per_second)
            if sample_aspect_ratio is not None:
                stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
            for tick, frame in zip(ticks, frames, strict=True):
                picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                picture.pts, picture.time_base = tick, Fraction(1, ticks_per_second)
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return path

    return make
