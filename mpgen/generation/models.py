"""A model that is ready to generate: of a checkpoint of ours, or of released weights with or without our memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from mpgen.backbones.eight_bit import EightBit
from mpgen.checkpoints import LoadedModel, load_released, model_card, open_trained, override
from mpgen.checkpoints.sources import read_json
from mpgen.denoiser import DenoiserConfig
from mpgen.encoders.registry import open_pipeline
from mpgen.errors import UserError
from mpgen.generation.offload import offload_blocks
from mpgen.generation.sizes import bucket_for

PYRAMID = "HeliosPyramidPipeline"  # of diffusers: Helios-Mid and, with `is_distilled`, Helios-Distilled
# Its sampler and steps, and sizes whose quarters are whole tokens: 384x640 for a wide picture, the released one.
DISTILLED: Mapping[str, Any] = MappingProxyType({"sampler": "helios_distilled", "forwards": 6, "bucket": (512, 64)})


def choose_device(name: str | None) -> torch.device:
    """The device asked for; otherwise a GPU if there is one.

    Raises:
        UserError: it cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"--device {name} cannot be used, wanted cpu or cuda: {said}") from error
    return device


def load_pipeline(
    folder: Path,
    encoders: Path | None,
    memory: Path | None,
    lora: Sequence[Path],
    device: torch.device,
    ema: bool,
    offload: bool,
    eight_bit: EightBit | None = None,
) -> LoadedModel:
    """Released weights and encoders, in bf16 on a GPU and fp32 on a CPU.

    Args:
        folder: released weights of the backbone, or a whole pipeline's folder.
        encoders: the pipeline's folder with the encoders; `folder` if None.
        memory: a checkpoint of `mpgen fit` or a folder of `mpgen export`, whose weights, the memory's among them, are
            override the released ones.
        lora: LoRA files to merge into the released weights first.
        device: where to compute.
        ema: take the checkpoint's averaged weights.
        offload: one large module on the device at a time, the backbone block by block.
        eight_bit: keeps the weights of the blocks in 8 bits.

    Raises:
        UserError: when something is missing, damaged or does not fit.
    """
    parts = open_pipeline(folder if encoders is None else encoders, device, offload)
    trained = None if memory is None else open_trained(memory, ema)
    config = None if trained is None else trained.network
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    denoiser = load_released(folder, config, lora, dtype, eight_bit)
    if trained is not None:
        override(denoiser, trained.weights, trained.path)
    denoiser = denoiser.eval().requires_grad_(False)
    if offload:
        offload_blocks(denoiser, device)
    else:
        denoiser = denoiser.to(device)
    released = {} if trained is not None else _how_it_samples(folder)
    if trained is None:
        height, width = bucket_for(480, 832, *released.get("bucket", ()))
        backbone = denoiser.backbone.config
        scale, fps, steps = backbone.released_guidance_scale, backbone.released_fps, 0
        scale = 1.0 if released.get("sampler") else scale
        config = DenoiserConfig(backbone, None, denoiser.layout, denoiser.frame_index)
    else:
        height, width = trained.card["height_px"], trained.card["width_px"]
        scale, fps, steps = trained.card["guidance_scale"], trained.card["fps"], trained.steps
    card = model_card(config, parts, scale, height, width, fps) | {
        "released": str(folder),
        "memory": None if memory is None else str(memory),
        "lora": [str(path) for path in lora],
        "block_weights": eight_bit,
        "caveats": [] if trained is None else trained.card.get("caveats", []),
        "ema": None if trained is None else trained.card.get("ema", ema),
        **released,
    }
    return LoadedModel(denoiser, parts, scale, height, width, fps, Path(folder), steps, card)


def _how_it_samples(folder: Path) -> Mapping[str, Any]:
    """What a pipeline's `model_index.json` says of its sampling, for a model's card; empty where it says nothing."""
    described = folder / "model_index.json"
    index = read_json(described) if described.is_file() else {}
    if index.get("_class_name") != PYRAMID:
        return {}
    if index.get("is_distilled"):
        return DISTILLED
    return {"caveats": [f"{folder} was trained to sample at rising resolutions with CFG-Zero*, which is not done here"]}
