"""Which encoders belong to a released pipeline's folder."""

from pathlib import Path

import torch

from mpgen.encoders.base import Encoders
from mpgen.encoders.hunyuan import HunyuanEncoders
from mpgen.encoders.released import ReleasedFolder
from mpgen.encoders.wan import PARTS as WAN_PARTS
from mpgen.encoders.wan import WanEncoders
from mpgen.errors import UserError


def open_pipeline(folder: Path, device: torch.device, offload: bool) -> Encoders:
    """The autoencoder, text and image encoders of a released pipeline, in 16 bits on a GPU and fp32 on a CPU.

    Wan's are taken where its autoencoder is; that computes in fp32, as released.

    Args:
        folder: the pipeline's.
        device: where to compute.
        offload: one encoder on the device at a time.
    """
    on_gpu = device.type == "cuda"
    if _has_wans_autoencoder(folder):
        return WanEncoders(folder, str(device), dtype="bfloat16" if on_gpu else "float32", offload=offload)
    return HunyuanEncoders(
        folder,
        str(device),
        dtype="bfloat16" if on_gpu else "float32",
        vae_dtype="float16" if on_gpu else "float32",
        offload=offload,
    )


def _has_wans_autoencoder(folder: Path) -> bool:
    try:
        ReleasedFolder(folder, WAN_PARTS).config("vae")
    except UserError:
        return False
    return True
