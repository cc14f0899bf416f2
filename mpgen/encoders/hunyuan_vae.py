"""The HunyuanVideo autoencoder behind mpgen's protocol.

Its convolutions are causal but its group norms pool over all frames, so it is not: the latent of a clip's first frame
is not that of the frame encoded alone, and the last frames decoded change the first. So a start image is encoded alone,
as at generation, and sections are decoded together with the one before them (`overlap_latent_frames`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mpgen.encoders.base import Encoded, VideoAutoencoder
from mpgen.encoders.recent import content_key
from mpgen.encoders.released import OnDemand, ReleasedFolder, load_module
from mpgen.errors import UserError
from mpgen.sections import TEMPORAL_STRIDE
from mpgen.tensors import Clip

FRAMEPACK_SECTION = 9  # latent frames; FramePack decodes a section with as many before it, and fades 4 * 9 - 3 frames


@dataclass(frozen=True)
class Tiling:
    """How the autoencoder cuts what is too large for it; tiles overlap and are blended in a line. It changes values.

    The numbers are those of the released code, which cuts in time always and in space with `enable_tiling`.

    Args:
        frames: pixel frames of a tile after its first one, in fours; null for all frames at once.
        frame_step: pixel frames from one tile to the next, in fours.
        side_px: height and width of a tile, in eights; null for whole pictures.
        side_step_px: pixels from one tile to the next, in eights.
    """

    frames: int | None = 16
    frame_step: int = 12
    side_px: int | None = 256
    side_step_px: int = 192

    def __post_init__(self):
        for name, size, step, unit in (
            ("frame", self.frames, self.frame_step, TEMPORAL_STRIDE),
            ("side", self.side_px, self.side_step_px, 8),
        ):
            if size is not None and (size % unit or step % unit or not 0 < step <= size):
                raise ValueError(
                    f"{self}: wanted multiples of {unit} for the {name}s, and a step from {unit} to the size of a tile"
                )


WHOLE = Tiling(frames=None, side_px=None)


class HunyuanVAE(VideoAutoencoder):
    """`AutoencoderKLHunyuanVideo` of a released folder; one video at a time, in `dtype`, results in float32.

    Args:
        folder: where its weights are.
        device: where it computes.
        dtype: of weights and activations.
        offload: give the memory back after every use.
        tiling: how large clips are cut.
        posterior: "mode" takes the mean of the latents' distribution, our choice; "sample" draws, as the released code.
        seed: of the draws, which depend on the clip too.
    """

    temporal_stride = TEMPORAL_STRIDE
    overlap_latent_frames = FRAMEPACK_SECTION

    def __init__(
        self,
        folder: ReleasedFolder,
        device: torch.device,
        dtype: torch.dtype,
        offload: bool = False,
        tiling: Tiling = WHOLE,
        posterior: Literal["mode", "sample"] = "mode",
        seed: int = 0,
    ):
        self.folder, self.device, self.dtype = folder, device, dtype
        self.preview_file = folder.path / "vae" / "mpgen_preview.npz"
        self.tiling, self.posterior, self.seed = tiling, posterior, seed
        self.network = OnDemand(self._load, offload)

    @property
    def latent_channels(self) -> int:
        return self.folder.config("vae")["latent_channels"]

    @property
    def spatial_stride(self) -> int:
        return self.folder.config("vae").get("spatial_compression_ratio", 8)

    @property
    def scaling(self) -> float:
        return self.folder.config("vae")["scaling_factor"]

    def encode(self, clip: Clip) -> Encoded:
        frames, height, width = clip.shape[2:]
        side = self.spatial_stride
        if (frames - 1) % TEMPORAL_STRIDE or height % side or width % side:
            raise UserError(
                f"a clip of {frames} frames of {width}x{height}: wanted 1 + {TEMPORAL_STRIDE}k frames, "
                f"sides in multiples of {side}; set them in the data config"
            )
        rows = [self.network(lambda network, row=row: self._encode_one(network, row)) for row in clip.split(1)]
        return torch.cat(rows).to(clip.device)

    def decode(self, latents: Encoded, starts_with_still: bool = True) -> Clip:
        """Frames in [-1, 1]; without a still at the beginning, a copy of the first latent frame stands in for it."""
        if not starts_with_still:
            return self.decode(torch.cat([latents[:, :, :1], latents], 2))[:, :, 1:]
        rows = [self.network(lambda network, row=row: self._decode_one(network, row)) for row in latents.split(1)]
        return torch.cat(rows).to(latents.device)

    def _encode_one(self, network: nn.Module, clip: Tensor) -> Tensor:
        clip = clip.to(self.dtype)  # before the draws too, which are then those of any clip that becomes this one
        distribution = network.encode(clip.to(self.device)).latent_dist
        latents = distribution.mode().float()
        if self.posterior == "sample":
            latents = latents + distribution.std.float() * self._noise(clip, latents.shape).to(latents.device)
        return latents * self.scaling

    def _decode_one(self, network: nn.Module, latents: Tensor) -> Tensor:
        return network.decode(latents.to(self.device, self.dtype) / self.scaling).sample.float().clamp(-1, 1)

    def _noise(self, clip: Tensor, shape: Sequence[int]) -> Tensor:
        """The same for the same clip and seed, whatever was encoded before and on whichever device."""
        key = int.from_bytes(content_key(clip)[:7], "big")
        return torch.randn(shape, generator=torch.Generator().manual_seed(key ^ self.seed))

    def _load(self) -> nn.Module:
        ratio = self.folder.config("vae").get("temporal_compression_ratio", TEMPORAL_STRIDE)
        if ratio != TEMPORAL_STRIDE:
            raise UserError(
                f"{self.folder.path / 'vae'}: temporal_compression_ratio is {ratio}, wanted {TEMPORAL_STRIDE}"
            )
        network = load_module(self.folder, "vae", "diffusers", "AutoencoderKLHunyuanVideo", self.dtype)
        set_tiling(network, self.tiling)
        return network.to(self.device)


def set_tiling(network: nn.Module, tiling: Tiling) -> None:
    """Says all of diffusers' switches: left alone, it cuts clips of more than 16 frames without a word."""
    network.use_framewise_encoding = network.use_framewise_decoding = tiling.frames is not None
    network.use_tiling = tiling.side_px is not None
    if tiling.frames is not None:
        network.tile_sample_min_num_frames = tiling.frames
        network.tile_sample_stride_num_frames = tiling.frame_step
    if tiling.side_px is not None:
        network.tile_sample_min_height = network.tile_sample_min_width = tiling.side_px
        network.tile_sample_stride_height = network.tile_sample_stride_width = tiling.side_step_px
