"""Stand-ins for the HunyuanVideo VAE, Llama, CLIP and SigLIP: deterministic, offline, fast, with the same interfaces.

The autoencoder is a small convolutional network whose weights lie beside this file (`tools/train_tiny_vae.py` made them
from the built-in world). The text encoder hashes words, the image encoder shrinks patches: neither knows anything, but
every word and every place has its own direction, which is all that the built-in world's captions need.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mpgen.encoders.base import Encoded, Encoders, ImageEncoder, TextEncoder, TextFeatures, VideoAutoencoder
from mpgen.errors import UserError
from mpgen.sections import TEMPORAL_STRIDE
from mpgen.tensors import Clip

WEIGHTS = Path(__file__).with_name("tiny_vae.safetensors")


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class TinyVAENetwork(nn.Module):
    """Four frames at a time, as twelve channels of one picture, to 16 numbers for every 8 x 8 pixels, and back."""

    def __init__(self, channels: int = 16, width: int = 64, fine: int = 48):
        super().__init__()
        frames = 3 * TEMPORAL_STRIDE
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(frames * 16, fine, 1),
            nn.SiLU(),
            nn.Conv2d(fine, width, 4, stride=2, padding=1),
            _Residual(width),
            nn.Conv2d(width, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            _Residual(width),
            nn.Conv2d(width, fine * 4, 1),
            nn.PixelShuffle(2),
            _Residual(fine),
            nn.Conv2d(fine, frames * 16, 3, padding=1),
            nn.PixelShuffle(4),
        )
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))


class TinyVAE(VideoAutoencoder):
    """Causal and without overlap: every group of four frames is encoded by itself, a still as four equal frames."""

    temporal_stride = TEMPORAL_STRIDE
    spatial_stride = 8
    latent_channels = 16
    overlap_latent_frames = 0
    familiar_db = 23.0  # first frames of the built-in world come back at 24 (32 pixels) to 50, photographs at 16 to 21

    def __init__(self, weights: Path = WEIGHTS):
        self.preview_file = weights.with_name(f"{weights.stem}_preview.npz")
        self.network = TinyVAENetwork()
        self.network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
        self.network.requires_grad_(False)

    @torch.no_grad()
    def encode(self, clip: Clip) -> Encoded:
        frames, height, width = clip.shape[2:]
        if (frames - 1) % TEMPORAL_STRIDE or height % self.spatial_stride or width % self.spatial_stride:
            raise UserError(
                f"a clip of {frames} frames of {width}x{height}: wanted 1 + {TEMPORAL_STRIDE}k frames, "
                f"sides in multiples of {self.spatial_stride}; set them in the data config"
            )
        padded = torch.cat([clip[:, :, :1].expand(-1, -1, TEMPORAL_STRIDE - 1, -1, -1), clip], 2)
        groups = rearrange(padded, "b c (t f) h w -> (b t) (c f) h w", f=TEMPORAL_STRIDE)
        net = self.network.to(clip.device)
        latents = (net.encoder(groups) - net.latent_mean[:, None, None]) / net.latent_std[:, None, None]
        return rearrange(latents, "(b t) c h w -> b c t h w", b=len(clip))

    @torch.no_grad()
    def decode(self, latents: Encoded, starts_with_still: bool = True) -> Clip:
        net = self.network.to(latents.device)
        flat = rearrange(latents.float(), "b c t h w -> (b t) c h w")
        groups = net.decoder(flat * net.latent_std[:, None, None] + net.latent_mean[:, None, None])
        clip = rearrange(groups, "(b t) (c f) h w -> b c (t f) h w", b=len(latents), f=TEMPORAL_STRIDE)
        return (clip[:, :, TEMPORAL_STRIDE - 1 :] if starts_with_still else clip).clamp(-1, 1)


class TinyText(TextEncoder):
    """Every word and every pair of neighbours has a fixed random direction; a sentence is one token, their sum.

    Tokens of single words would not say which thing moves where in "a red disc moves up. a blue ring moves left.": text
    tokens carry no position in the backbone, which relies on a language model to have put the context into them. Pairs
    tell "moves left" from "comes in from the left", in the pooled vector too.
    """

    token_width = 128
    pooled_width = 128
    max_tokens = 12  # one a sentence

    def encode(self, captions: Sequence[str]) -> TextFeatures:
        rows = [torch.stack([self._sum(words) for words in self._split(caption)]) for caption in captions]
        mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        pooled = torch.stack([row.sum(0) / 2 for row in rows])
        return TextFeatures(pad_sequence(rows, batch_first=True), mask, pooled)

    def _sum(self, words: list[str]) -> Float[Tensor, " e"]:
        pairs = [f"{first} {second}" for first, second in pairwise(words)]
        return sum(_direction(term, self.token_width) for term in words + pairs) / 3

    def _split(self, caption: str) -> list[list[str]]:
        sentences = [sentence.split() for sentence in caption.lower().replace(",", " ").split(".")]
        return [words for words in sentences if words][: self.max_tokens] or [[""]]


@lru_cache(maxsize=10_000)
def _direction(word: str, width: int) -> Float[Tensor, " e"]:
    """A unit vector that follows from the word alone, times the square root of its width."""
    digest = hashlib.sha256(word.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return F.normalize(torch.randn(width, generator=generator), dim=0) * width**0.5


class TinyImage(ImageEncoder):
    """A 2 x 2 grid of patches, each shrunk to 4 x 4 pixels, with a code of its row and column."""

    width = 52
    grid = 2
    max_tokens = grid**2

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i f"]:
        small = F.interpolate(images.float(), (self.grid * 4, self.grid * 4), mode="area")
        patches = rearrange(small, "b c (y p) (x q) -> b (y x) (c p q)", y=self.grid, x=self.grid)
        place = torch.eye(self.grid, device=images.device) * 2 - 1
        rows = repeat(place, "y e -> b (y x) e", b=len(images), x=self.grid)
        columns = repeat(place, "x e -> b (y x) e", b=len(images), y=self.grid)
        return torch.cat([2 * patches, rows, columns], -1)


class TinyEncoders(Encoders):
    """The three stand-ins together."""

    def __init__(self) -> None:
        self.vae = TinyVAE()
        self.text = TinyText()
        self.image = TinyImage()

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(WEIGHTS.read_bytes() + b"tiny-5").hexdigest()
