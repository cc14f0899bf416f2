"""Weights in 8-bit floats: a scale beside a weight is multiplied in, and a weight that has lost its scale is refused.

ComfyUI writes `X.scale_weight` (and a marker `scaled_fp8`), later `X.weight_scale` (and `X.comfy_quant`); musubi-tuner
`X.scale_weight` of one number, one a row, or one for each stretch of a row. The original HunyuanVideo keeps the scales
in a second file, `NAME_map.pt` beside `NAME.pt`. Plain casts have no scale; their values stay far below the
end of the range, which scaled ones reach by construction.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mpgen.checkpoints.sources import Source, Stored
from mpgen.errors import UserError

SPELLINGS = (".scale_weight", ".weight_scale")
IGNORED = (".scale_input", ".input_scale", "scaled_fp8", ".comfy_quant")  # of activations, and ComfyUI's notes
RANGE = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


def with_scales(source: Source, path: Path) -> Source:
    """The source with every scale multiplied into its weight and no scales of their own.

    Args:
        source: named tensors.
        path: where they are from, for errors.
    """
    scales = {
        name.removesuffix(spelling) + ".weight": stored
        for name, stored in source.items()
        for spelling in SPELLINGS
        if name.endswith(spelling)
    }
    strangers = sorted(scales.keys() - source.keys())
    if strangers:
        raise UserError(f"{path} holds a scale but no weight for {strangers[0]}")
    kept = {name: stored for name, stored in source.items() if not name.endswith((*SPELLINGS, *IGNORED))}
    return {name: _rescaled(path, name, stored, scales.get(name)) for name, stored in kept.items()}


def _rescaled(path: Path, name: str, stored: Stored, scale: Stored | None) -> Stored:
    if stored.dtype not in RANGE and scale is None:
        return stored
    return replace(stored, dtype=torch.bfloat16, read=partial(_read, path, name, stored, scale))


def _read(path: Path, name: str, stored: Stored, scale: Stored | None) -> Tensor:
    weight = stored.read().float()
    if scale is None:
        if float(weight.abs().max()) >= RANGE[stored.dtype] / 2:
            raise UserError(
                f"{path}: {name} is in 8 bits and has lost its scale: "
                f"wanted {name.removesuffix('.weight')}.scale_weight beside it, or weights in bfloat16"
            )
        return weight
    factor = scale.read().float()
    rows, stretches = (len(weight), factor.numel() // len(weight)) if factor.numel() > 1 else (1, 1)
    if factor.numel() != rows * stretches or weight.numel() % factor.numel():
        raise UserError(
            f"{path}: the scale of {name} is {list(factor.shape)}: wanted one number, one a row, or some for each row"
        )
    return (weight.reshape(rows, stretches, -1) * factor.reshape(rows, stretches, 1)).reshape(weight.shape)
