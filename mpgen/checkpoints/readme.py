"""The README.md of an exported model: what it is, how large, after how many steps, and what binds its users."""

import json
from typing import Any

from torch import nn

from mpgen.backbones.registry import LICENCES
from mpgen.checkpoints.runs import LoadedModel

HEAD = """---
library_name: mpgen
pipeline_tag: image-to-video
tags: [video-generation, image-to-video, long-video, memory]
---
"""
USE = """```python
from mpgen import MemoryPackPipeline

pipeline = MemoryPackPipeline.from_pretrained("{name}")  # this folder, or owner/name on the Hub
pipeline(image="first_frame.png", prompt="...", seconds=60).save("out.mp4")
```"""


def readme(model: LoadedModel, name: str, for_diffusers: bool) -> str:
    """The text, as the Hub shows it.

    Args:
        model: what it is of.
        name: of its folder.
        for_diffusers: whether the folder holds `transformer/`.
    """
    denoiser, card = model.denoiser, model.card
    weights = "released" if card.get("ema") is None else "averaged (EMA)" if card["ema"] else "raw (not averaged)"
    rows = {
        "backbone": f"{_class_name(card['denoiser']['backbone'])}, {_count(denoiser.backbone)} parameters",
        "long-term memory": "none (FramePack alone)"
        if denoiser.memory is None
        else f"{_class_name(card['denoiser']['memory'])}, {_count(denoiser.memory)} parameters",
        "weights": f"{weights}, {next(denoiser.parameters()).dtype}".replace("torch.", ""),
        "optimizer steps": f"{model.steps:,}",
        "trained at": f"{model.width_px}x{model.height_px} pixels, {model.fps:g} frames a second",
        "section": f"{denoiser.layout.section_pixel_frames} frames, {denoiser.layout.section} latent ones",
        "guidance scale": f"{model.guidance_scale:g}",
        "encoders": _class_name(card["encoders"]),
        "mpgen": card["version"],
    }
    parts = [
        HEAD,
        f"# {name}\n",
        "A video model of [Pack and Force Your Memory](https://arxiv.org/abs/2510.01784): section by section from one "
        "image and a prompt, written by `mpgen export`.\n",
        "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items()) + "\n",
        *(f"> **Caveat.** {caveat}\n" for caveat in card.get("caveats", ())),
        "## Use\n",
        USE.format(name=name) + "\n",
        "`transformer/` is the backbone alone, for diffusers, which knows no long-term memory.\n"
        if for_diffusers
        else "diffusers' class cannot hold this network.\n",
        "## Licence\n",
        "Where it was trained on from released weights, their licence holds for it too: "
        f"{LICENCES[type(denoiser.backbone.config)]}. Name your own beside it, and the data.\n",
        "## Config\n",
        f"```json\n{json.dumps(card['denoiser'], indent=2, ensure_ascii=False)}\n```\n",
    ]
    return "\n".join(parts)


def _class_name(described: dict[str, Any]) -> str:
    return described["class_path"].rpartition(".")[2].removesuffix("Config")


def _count(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"
