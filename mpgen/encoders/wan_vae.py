"""The Wan autoencoder behind mpgen's protocol, a few frames on the device at a time.

It is causal throughout: what a convolution needs of the frames before is a cache. So the latent of a clip's first frame
is that of the frame alone, and encoding or decoding in parts is the same as all at once. diffusers' class of Wan 2.1
(16 channels, 4x8x8) and 2.2 (48 channels, 4x16x16) is used, its encoder and decoder called part by part.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from mpgen.encoders.base import Encoded, VideoAutoencoder
from mpgen.encoders.released import OnDemand, ReleasedFolder, load_module
from mpgen.errors import UserError
from mpgen.sections import TEMPORAL_STRIDE
from mpgen.tensors import Clip


class _Cache:
    """What the convolutions of an encoder or decoder keep of the frames before, in the order that they run."""

    def __init__(self):
        self.frames: dict[int, Any] = defaultdict(lambda: None)

    def options(self) -> dict[str, Any]:
        """For one call of diffusers' encoder or decoder."""
        return {"feat_cache": self.frames, "feat_idx": [0]}


class WanVAE(VideoAutoencoder):
    """`AutoencoderKLWan` of a released folder; one video at a time, in `dtype`, results in float32.

    Latents are the mean of their distribution (our choice; the released code draws), normalised by channel.

    Args:
        folder: where its weights are.
        device: where it computes.
        dtype: of weights and activations; released pipelines take float32.
        offload: give the memory back after every use.
    """

    temporal_stride = TEMPORAL_STRIDE
    overlap_latent_frames = 0

    def __init__(self, folder: ReleasedFolder, device: torch.device, dtype: torch.dtype, offload: bool = False):
        self.folder, self.device, self.dtype = folder, device, dtype
        self.preview_file = folder.path / "vae" / "mpgen_preview.npz"
        self.network = OnDemand(self._load, offload)

    @property
    def latent_channels(self) -> int:
        return self.folder.config("vae")["z_dim"]

    @property
    def spatial_stride(self) -> int:
        return self.folder.config("vae").get("scale_factor_spatial", 8)

    def encode(self, clip: Clip) -> Encoded:
        frames, height, width = clip.shape[2:]
        side = self.spatial_stride
        if (frames - 1) % TEMPORAL_STRIDE or height % side or width % side:
            raise UserError(
                f"a clip of {frames} frames of {width}x{height}: wanted 1 + {TEMPORAL_STRIDE}k frames, "
                f"sides in multiples of {side}; set them in the data config"
            )
        rows = [self.network(lambda network, row=row: self._encode_one(network, row)) for row in clip.split(1)]
        return torch.cat(rows)

    def decode(self, latents: Encoded, starts_with_still: bool = True) -> Clip:
        """Frames in [-1, 1]; without a still at the beginning, a copy of the first latent frame stands in for it."""
        if not starts_with_still:
            return self.decode(torch.cat([latents[:, :, :1], latents], 2))[:, :, 1:]
        return self.stream()(latents)

    def stream(self) -> Callable[[Encoded], Clip]:
        """A decoder of latents that come in parts: the same frames as of all of them at once."""
        caches: dict[int, _Cache] = defaultdict(_Cache)  # by video

        def decode(part: Encoded) -> Clip:
            rows = [
                self.network(lambda network, video=video, row=row: self._decode_one(network, row, caches[video]))
                for video, row in enumerate(part.split(1))
            ]
            return torch.cat(rows)

        return decode

    def _encode_one(self, network: nn.Module, clip: Tensor) -> Tensor:
        mean, std = self._moments(network)
        cache, latents = _Cache(), []
        lengths = [1, *[TEMPORAL_STRIDE] * (clip.shape[2] // TEMPORAL_STRIDE)]
        for part in clip.split(lengths, 2):
            part = _fold(part.to(self.device, self.dtype), network.config.patch_size)
            distribution = network.quant_conv(network.encoder(part, **cache.options()))
            latents.append(((distribution.chunk(2, 1)[0].float() - mean) / std).to(clip.device))
        return torch.cat(latents, 2)

    def _decode_one(self, network: nn.Module, latents: Tensor, cache: _Cache) -> Tensor:
        mean, std = self._moments(network)
        clips = []
        for frame in latents.split(1, 2):
            inner = network.post_quant_conv((frame.to(self.device).float() * std + mean).to(self.dtype))
            clip = network.decoder(inner, **cache.options(), first_chunk=not cache.frames)
            clips.append(_unfold(clip, network.config.patch_size).float().clamp(-1, 1).to(latents.device))
        return torch.cat(clips, 2)

    def _moments(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(network.config[f"latents_{name}"]) for name in ("mean", "std"))
        return tuple(moment.view(1, -1, 1, 1, 1).to(self.device) for moment in (mean, std))

    def _load(self) -> nn.Module:
        config = self.folder.config("vae")
        ratio = config.get("scale_factor_temporal", TEMPORAL_STRIDE)
        if ratio != TEMPORAL_STRIDE:
            raise UserError(f"{self.folder.path / 'vae'}: scale_factor_temporal is {ratio}, wanted {TEMPORAL_STRIDE}")
        return load_module(self.folder, "vae", "diffusers", "AutoencoderKLWan", self.dtype).to(self.device)


def _fold(clip: Tensor, side: int | None) -> Tensor:
    """Wan 2.2 takes squares of pixels as channels, in this order."""
    return clip if side is None else rearrange(clip, "b c t (h y) (w x) -> b (c x y) t h w", y=side, x=side)


def _unfold(clip: Tensor, side: int | None) -> Tensor:
    return clip if side is None else rearrange(clip, "b (c x y) t h w -> b c t (h y) (w x)", y=side, x=side)
