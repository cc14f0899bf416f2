"""What a video is conditioned on: text and image features and the guidance (CFG) scale, the same for every section."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Widths:
    """Channels of what a network reads, and of what encoders give; both must agree.

    Args:
        latents: channels of a latent.
        text: of a text token.
        pooled: of the vector for the whole text; None where there is none.
        image: of an image token; None where there is none.
    """

    latents: int
    text: int
    pooled: int | None = None
    image: int | None = None


@dataclass(frozen=True)
class Conditioning:
    """Text and image features of a batch of videos.

    Args:
        text: one vector a text token, right-padded.
        text_mask: true where `text` holds a token; at least one a row.
        pooled: one vector for the whole text; None where the encoders give none.
        image: one vector a patch of the start image; None likewise.
        guidance_scale: strength of classifier-free guidance; an input of backbones that were distilled so.
        negative: what guidance leads away from, where it is two forwards; None for none.
        start: latents of the start image, for a memory that compares sections with it; None where none does.
    """

    text: Float[Tensor, "b l e"]
    text_mask: Bool[Tensor, "b l"]
    pooled: Float[Tensor, "b p"] | None
    image: Float[Tensor, "b i f"] | None
    guidance_scale: float | int = 1.0
    negative: "Conditioning | None" = None
    start: Float[Tensor, "b c 1 h w"] | None = None

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Conditioning":
        """On another device, or with features of another dtype; None leaves it as it is."""
        text, pooled, image = (
            None if features is None else features.to(device=device, dtype=dtype)
            for features in (self.text, self.pooled, self.image)
        )
        mask = self.text_mask.to(device=device)
        negative = None if self.negative is None else self.negative.to(device, dtype)
        return replace(self, text=text, text_mask=mask, pooled=pooled, image=image, negative=negative)

    def guided(self, scale: float | int) -> "Conditioning":
        """The same with another guidance scale."""
        return replace(self, guidance_scale=scale)

    def away_from(self, text: "Conditioning") -> "Conditioning":
        """The same with one text, that of a single video, as what guidance leads all of these videos away from."""
        like = {"device": self.text.device, "dtype": self.text.dtype}
        own = text.to(**like)
        tokens, mask, pooled = (
            None if features is None else features.expand(len(self.text), *features.shape[1:])
            for features in (own.text, own.text_mask, own.pooled)
        )
        assert tokens is not None
        assert mask is not None
        return replace(self, negative=Conditioning(tokens, mask, pooled, self.image))

    def cut(self, videos: slice) -> "Conditioning":
        """That of some of the videos; texts stay as long as the longest of all."""
        pooled, image = (None if features is None else features[videos] for features in (self.pooled, self.image))
        negative = None if self.negative is None else self.negative.cut(videos)
        return replace(
            self,
            text=self.text[videos],
            text_mask=self.text_mask[videos],
            pooled=pooled,
            image=image,
            negative=negative,
            start=None if self.start is None else self.start[videos],
        )

    def above_negative(self) -> "Conditioning":
        """One batch: these videos, then the same with the negative branch's features; shorter texts are padded."""
        other = self.negative
        assert other is not None
        both, longest = (self, other), max(self.text.shape[1], other.text.shape[1])
        text = torch.cat([F.pad(one.text, (0, 0, 0, longest - one.text.shape[1])) for one in both])
        mask = torch.cat([F.pad(one.text_mask, (0, longest - one.text_mask.shape[1])) for one in both])
        pooled, image = (
            None if one is None else torch.cat([one, two])
            for one, two in ((self.pooled, other.pooled), (self.image, other.image))
        )
        return Conditioning(text, mask, pooled, image, self.guidance_scale)
