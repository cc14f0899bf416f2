"""`mpgen export`: a trained model as files that diffusers and `mpgen generate` load."""

from pathlib import Path
from typing import Literal

import torch

from mpgen.checkpoints.export import LORA, export_model, learned_adapters
from mpgen.checkpoints.runs import load_for_generation, open_trained
from mpgen.checkpoints.shipped import locate


def export(
    ckpt_path: Path,
    output: Path,
    ema: bool = True,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Write a trained model as safetensors: for diffusers (without the memory) and for mpgen generate (all of it).

    LoRA adapters are merged, and also written alone, as OUTPUT/lora.safetensors for --lora and for diffusers.

    Example: mpgen export --ckpt_path runs/quickstart/checkpoints/last.ckpt --output quickstart

    Args:
        ckpt_path: a checkpoint that `mpgen fit` wrote, or a run's folder, whose last one is taken.
        output: the folder to write; it must not be there.
        ema: use the averaged weights.
        dtype: of the numbers in the files.
    """
    ckpt_path = locate(ckpt_path)
    model = load_for_generation(ckpt_path, torch.device("cpu"), ema)
    model.denoiser.to(getattr(torch, dtype))
    adapters = learned_adapters(open_trained(ckpt_path, ema))
    obstacle = export_model(model, output, adapters=adapters)
    weights = sum(parameter.numel() for parameter in model.denoiser.parameters())
    print(f"{output}: {weights:,} parameters in {dtype}, after {model.steps:,} steps")
    if obstacle:
        print(f"nothing for diffusers: {obstacle}")
    if adapters:
        print(f"{output / LORA}: the adapters alone, {sum(part.numel() for part in adapters.values()):,} numbers")
    print(f"next:\n  mpgen generate --ckpt_path {output} --output out.mp4 --image first_frame.png --prompt '...'")
