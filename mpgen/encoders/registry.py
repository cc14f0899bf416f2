"""Which encoders belong to a released pipeline's folder."""

from pathlib import Path

import torch

from mpgen.encoders.base import Encoders
from mpgen.encoders.hunyuan import HunyuanEncoders


def open_pipeline(folder: Path, device: torch.device, offload: bool) -> Encoders:
    """The autoencoder, text and image encoders of a released pipeline, in 16 bits on a GPU and fp32 on a CPU.

    Args:
        folder: the pipeline's.
        device: where to compute.
        offload: one encoder on the device at a time.
    """
    on_gpu = device.type == "cuda"
    return HunyuanEncoders(
        folder,
        str(device),
        dtype="bfloat16" if on_gpu else "float32",
        vae_dtype="float16" if on_gpu else "float32",
        offload=offload,
    )
