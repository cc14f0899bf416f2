"""What mpgen asks of an encoder. A set of encoders is one object, named by its class in a config."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mpgen.conditioning import Conditioning, Widths
from mpgen.errors import UserError, printable
from mpgen.tensors import Clip

Encoded = Float[
    Tensor, "b c latent_t latent_h latent_w"
]  # latents, where the clip's own t h w are in the same signature


class VideoAutoencoder(ABC):
    """Clips to latents and back: 1 + 4k pixel frames are 1 + k latent frames, the first of them a still."""

    temporal_stride: int
    spatial_stride: int
    expected_stride: int = 8
    """`spatial_stride` for estimates, when no weights are there to say it."""
    latent_channels: int
    overlap_latent_frames: int
    """Latent frames before a section that decoding it needs to see; their frames are cross-faded. 0 if causal."""
    dtype: torch.dtype = torch.float32
    """What it computes in. A clip of this dtype has the latents of the float32 one, in less memory."""
    familiar_db: float | None = None
    """PSNR to which it gives back at least what it was trained on, in dB; None where it was trained on everything."""
    preview_file: Path | None = None
    """Where its `LinearPreview` lies, beside its weights; None where there is no place."""

    @abstractmethod
    def encode(self, clip: Clip) -> Encoded:
        """Latents of 1 + 4k frames in [-1, 1]; height and width are multiples of `spatial_stride`."""

    @abstractmethod
    def decode(self, latents: Encoded, starts_with_still: bool = True) -> Clip:
        """Frames in [-1, 1]: 1 + 4k for 1 + k latent frames, or 4 for each where no still comes first."""

    def stream(self) -> Callable[[Encoded], Clip]:
        """A decoder of latents that come in parts, the first of which begins with a still; for causal autoencoders."""
        is_first = True

        def decode(part: Encoded) -> Clip:
            nonlocal is_first
            clip, is_first = self.decode(part, starts_with_still=is_first), False
            return clip

        return decode


@dataclass(frozen=True)
class TextFeatures:
    """Captions as vectors, right-padded.

    Args:
        tokens: one vector a token.
        mask: true where there is a token; at least one a row.
        pooled: one vector a caption; None where the encoder has none.
    """

    tokens: Float[Tensor, "b l e"]
    mask: Bool[Tensor, "b l"]
    pooled: Float[Tensor, "b p"] | None

    @classmethod
    def padded(
        cls, rows: Sequence[Float[Tensor, "_ e"]], pooled: Sequence[Float[Tensor, " p"]] | None = None
    ) -> "TextFeatures":
        """Captions of different lengths together, with zeros where there is no token."""
        mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        stacked = None if pooled is None else torch.stack(list(pooled))
        return cls(pad_sequence(list(rows), batch_first=True), mask, stacked)


class TextEncoder(ABC):
    """Captions to vectors."""

    token_width: int
    pooled_width: int | None
    """Of the vector for a whole caption; None where there is none."""
    max_tokens: int
    """The most that it gives for a caption."""

    @abstractmethod
    def encode(self, captions: Sequence[str]) -> TextFeatures:
        """Features of each caption; an empty caption has one token, so that no mask is empty."""


class ImageEncoder(ABC):
    """Images to vectors, one a patch."""

    width: int
    max_tokens: int
    """The most that it gives for an image."""

    @abstractmethod
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i f"]:
        """Features of images in [-1, 1]."""


class Encoders(ABC):
    """The encoders of a model, and what identifies them."""

    vae: VideoAutoencoder
    text: TextEncoder
    image: ImageEncoder | None
    """None where the model reads the start image from its latents alone."""

    @property
    def widths(self) -> Widths:
        """Channels of what these encoders give."""
        image = None if self.image is None else self.image.width
        return Widths(self.vae.latent_channels, self.text.token_width, self.text.pooled_width, image)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of weights and settings: a cache made with another one is not read."""

    @property
    def init_args(self) -> dict[str, Any]:
        """The arguments that make the same encoders again, in plain types; a checkpoint keeps them."""
        return {}

    @property
    def caveat(self) -> str:
        """Why what they give means little, such as random weights, or empty; caches and checkpoints keep it."""
        return ""

    def check(self) -> None:  # noqa: B027 - most encoders need no files of the user's
        """Raises UserError when files that will be needed are missing; quick, so that a run asks before it starts."""

    def release(self) -> None:  # noqa: B027 - likewise
        """Gives back the memory of loaded weights, which are loaded again when they are next needed."""

    def conditioning(
        self, captions: Sequence[str], images: Float[Tensor, "b 3 h w"] | None, negative: str | None = None
    ) -> Conditioning:
        """Text and image features of a batch of videos.

        Args:
            captions: one a video.
            images: the start images, in [-1, 1]; None where there are none.
            negative: what guidance leads all of them away from, where it is a second forward.

        Raises:
            UserError: a text is no valid Unicode, such as a prompt typed in another encoding than the terminal's.
        """
        for text in (*captions, negative or ""):
            if printable(text) != text:
                raise UserError(f"the text {text[:40]!r} is no valid Unicode: wanted UTF-8, as the terminal's encoding")
        num, image = len(captions), None if self.image is None or images is None else self.image.encode(images)
        texts = [*captions, *([] if negative is None else [negative] * num)]
        text = self.text.encode(texts)  # together, so that a text encoder that is loaded for it is loaded once

        def branch(first: int, beside: Conditioning | None = None) -> Conditioning:
            rows = slice(first, first + num)
            pooled = None if text.pooled is None else text.pooled[rows]
            return Conditioning(text.tokens[rows], text.mask[rows], pooled, image, negative=beside)

        return branch(0) if negative is None else branch(0, branch(num))
