"""Latents to pixels at a glance: a linear map for each autoencoder, which costs next to nothing beside its decoder.

Each latent frame becomes one picture: every position and its eight neighbours give the pixels of that position. The map
is fitted once by least squares, and lies with the error that it had on other clips beside the autoencoder's weights.
"""

import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mpgen.atomic import replacing
from mpgen.encoders.base import VideoAutoencoder
from mpgen.tensors import Clip, Latents

Frames = Float[Tensor, "b 3 t height_px width_px"]  # one for each latent frame
REACH = 3  # positions on a side that a pixel is made of
_RANGE = 2.0  # of pixels, from -1 to 1


@dataclass(frozen=True)
class LinearPreview:
    """Pixels as a linear function of latents.

    Args:
        weight: from the latents around a position to its pixels.
        bias: of the pixels.
        error_db: PSNR on clips that it was not fitted to, against the mean of the frames in a latent frame.
        explained: share of those frames' variance that it reproduces.
    """

    weight: Float[Tensor, "pixels c 3 3"]
    bias: Float[Tensor, " pixels"]
    error_db: float = math.nan
    explained: float = math.nan

    def __call__(self, latents: Latents) -> Frames:
        """Frames in [-1, 1], one for each latent frame."""
        side = math.isqrt(len(self.bias) // 3)
        flat = rearrange(latents.float(), "b c t h w -> (b t) c h w")
        padded = F.pad(flat, (REACH // 2,) * 4, mode="replicate")
        pixels = F.conv2d(padded, self.weight.to(flat.device), self.bias.to(flat.device))
        frames = rearrange(F.pixel_shuffle(pixels, side), "(b t) c h w -> b c t h w", b=len(latents))
        return frames.clamp(-1, 1)

    def fits(self, vae: VideoAutoencoder) -> bool:
        """Whether it was fitted to latents of this shape."""
        return self.weight.shape[:2] == (3 * vae.spatial_stride**2, vae.latent_channels)

    def save(self, path: Path) -> None:
        """Writes arrays of these names as .npz, a kind of file that no folder of weights is searched for.

        Raises:
            UserError: it cannot be written there.
        """
        arrays = {"weight": self.weight.half().numpy(), "bias": self.bias.half().numpy()}
        with replacing(path) as half_written, half_written.open("wb") as file:
            np.savez(file, error_db=self.error_db, explained=self.explained, **arrays)

    @classmethod
    def load(cls, path: Path) -> "LinearPreview | None":
        """What `save` wrote; None where there is none, or something else."""
        try:
            with path.open("rb") as file, np.load(file) as stored:
                weight, bias = (torch.from_numpy(stored[name]).float() for name in ("weight", "bias"))
                return cls(weight, bias, float(stored["error_db"]), float(stored["explained"]))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None


def fit_preview(vae: VideoAutoencoder, clips: Iterable[Clip], others: Iterable[Clip]) -> LinearPreview:
    """The map that comes nearest to `clips`, and its error on `others`; memory does not grow with their number.

    Args:
        vae: encodes.
        clips: 1 + 4k frames each, in [-1, 1], with sides in multiples of `vae.spatial_stride`.
        others: those whose error is stated.
    """
    wanted = 1 + vae.latent_channels * REACH**2
    seen, answers = torch.zeros(wanted, wanted, dtype=torch.float64), 0.0
    for clip in clips:
        latents, pixels = _pairs(vae, clip)
        seen += latents.T @ latents
        answers = answers + latents.T @ pixels
    solution = torch.linalg.lstsq(seen, answers, driver="gelsd").solution  # also of clips that say too little
    weight = solution[:-1].T.reshape(-1, vae.latent_channels, REACH, REACH).half().float()
    fitted = LinearPreview(weight, solution[-1].half().float())
    squares, count, total, variance = 0.0, 0, 0.0, 0.0
    for clip in others:
        latents, pixels = _pairs(vae, clip)
        squares += float((latents @ solution - pixels).square().sum())
        total, variance = total + float(pixels.sum()), variance + float(pixels.square().sum())
        count += pixels.numel()
    variance -= total**2 / count
    error_db = 10 * math.log10(_RANGE**2 * count / max(squares, 1e-12))
    return LinearPreview(fitted.weight, fitted.bias, error_db, 1 - squares / max(variance, 1e-12))


def _pairs(
    vae: VideoAutoencoder, clip: Clip
) -> tuple[Float[Tensor, "positions latents"], Float[Tensor, "positions pixels"]]:
    """Latents around every position, with a one for the bias, and the pixels there: the mean of a latent frame's."""
    latents = vae.encode(clip)[:, :, 1:].float().cpu()
    groups = rearrange(clip[:, :, 1:].float().cpu(), "b c (t f) h w -> b c t f h w", f=vae.temporal_stride).mean(3)
    side = vae.spatial_stride
    pixels = rearrange(groups, "b c t (h y) (w x) -> (b t h w) (c y x)", y=side, x=side)
    flat = F.pad(rearrange(latents, "b c t h w -> (b t) c h w"), (REACH // 2,) * 4, mode="replicate")
    around = rearrange(F.unfold(flat, REACH), "f n p -> (f p) n")
    return torch.cat([around, torch.ones(len(around), 1)], 1).double(), pixels.double()
