"""LoRA for HunyuanVideo and FramePack, added to the weights while they are loaded: W + scale * up @ down.

Three families of names: diffusers' and PEFT's (`transformer_blocks.0.attn.to_q.lora_A.weight`), kohya's with
underscores (`lora_unet_transformer_blocks_0_attn_to_q.lora_down.weight` and `.alpha`), and either of them with
Tencent's layers, whose fused rows are given to the layers they became. Our own runs' checkpoints use the first one.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from mpgen.backbones.hunyuan.keymap import LAYERS, Rows, locate
from mpgen.backbones.lora import ADAPTER
from mpgen.checkpoints.sources import Source, metadata, open_source, read_json
from mpgen.errors import UserError

PREFIXES = re.compile(r"^(base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|transformer\.)+")
KOHYA = re.compile(r"^lora_(unet|transformer)_")
NAME = re.compile(r"^(?P<layer>.+?)\.(?P<part>lora_A|lora_B|lora_down|lora_up|alpha)(\.default)?(\.weight)?$")
DOWN, UP = ("lora_A", "lora_down"), ("lora_B", "lora_up")


@dataclass(frozen=True)
class Update:
    """What a LoRA adds to one weight.

    Args:
        down: to the rank.
        up: from the rank; only the rows of this weight.
        scale: alpha over rank.
    """

    down: Tensor
    up: Tensor
    scale: float

    def added_to(self, weight: Tensor) -> Tensor:
        """The sum, in fp32."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return weight.float() + self.scale * product.view(weight.shape)


def read_lora(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Update]:
    """The updates of a LoRA file, or of a folder that holds one, by the released names of the weights.

    Args:
        path: a safetensors file, or a folder with one and perhaps PEFT's `adapter_config.json`.
        shapes: of every tensor of the network.

    Raises:
        UserError: when the file is missing or damaged, or a name or shape in it fits no layer.
    """
    path = Path(path)
    return _read_updates(path, open_source(path), shapes, _scale_beside(path))


def merged_updates(
    source: Source, path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Source, dict[str, Update]]:
    """A run's weights, apart from the updates that it learned beside them; so a network without such layers gets both.

    Args:
        source: the weights.
        path: where they are from, for errors.
        shapes: of every tensor of the network; where it has such layers itself, there is nothing to take apart.
    """
    learned = {name: stored for name, stored in source.items() if ADAPTER in name}
    if not learned or any(ADAPTER in name for name in shapes):
        return source, {}
    plain = {name: stored for name, stored in source.items() if name not in learned}
    return plain, _read_updates(path, learned, shapes, scale=1.0)


def _read_updates(path: Path, source: Source, shapes: Mapping[str, tuple[int, ...]], scale: float) -> dict[str, Update]:
    """The updates among named tensors, of which there must be no others.

    Args:
        path: where they are from, for errors.
        source: the tensors.
        shapes: of every tensor of the network.
        scale: of updates that do not say theirs.
    """
    layers = _layers(shapes)
    flat = {layer.replace(".", "_"): layer for layer in layers}
    parts: dict[str, dict[str, str]] = {}
    strangers = []
    for name in source:
        match = NAME.match(name)
        layer = None if match is None else _meant(match["layer"], layers, flat)
        if layer is None:
            strangers.append(name)
        else:
            kind = "down" if match["part"] in DOWN else "up" if match["part"] in UP else "alpha"
            parts.setdefault(layer, {})[kind] = name
    halves = [layer for layer, found in parts.items() if not {"down", "up"} <= found.keys()]
    if strangers or not parts:
        said = f"{len(strangers)} unexpected ({', '.join(strangers[:8])}{', ...' if len(strangers) > 8 else ''})"
        raise UserError(f"{path} is no LoRA of this model: {said if strangers else 'it is empty'}")
    if halves:
        raise UserError(f"{path} holds half an update of {', '.join(halves[:8])}: wanted down and up")
    updates: dict[str, Update] = {}
    for layer, found in parts.items():
        updates |= _updates_of(path, source, layers[layer], found, shapes, scale)
    return updates


def _layers(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, Rows]]:
    """Every layer that a LoRA may name, released or Tencent's: which weights it is, and which rows each gets."""
    num_rows = {name: shape[0] for name, shape in shapes.items()}
    layers = {
        name.removesuffix(".weight"): {name: Rows(name, ((0, shape[0]),))}
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) > 1
    }
    for origin in LAYERS:
        for number in count():
            layer = origin.format(number)
            places = locate(f"{layer}.weight", num_rows)
            if places and all(len(shapes[name]) > 1 for name in places):
                layers[layer] = places
            if not places or layer == origin:
                break
    return layers


def _meant(name: str, layers: Mapping[str, object], flat: Mapping[str, str]) -> str | None:
    """The layer that a LoRA means: prefixes taken off, and kohya's underscores made dots again."""
    if KOHYA.match(name):
        return flat.get(KOHYA.sub("", name))
    plain = PREFIXES.sub("", name)
    return plain if plain in layers else None


def _updates_of(
    path: Path,
    source: Source,
    places: Mapping[str, Rows],
    found: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    default: float,
) -> dict[str, Update]:
    down, up = source[found["down"]].read().clone(), source[found["up"]].read().clone()
    rank = down.shape[0]
    scale = default
    if "alpha" in found:
        scale = float(source[found["alpha"]].read()) / rank
    total = sum(shapes[name][0] for name in places)
    columns = [torch.Size(shapes[name][1:]).numel() for name in places]
    if up.shape[0] != total or up[0].numel() != rank or any(down[0].numel() != number for number in columns):
        raise UserError(
            f"{path}: {found['up']} {list(up.shape)} and {found['down']} {list(down.shape)} do not fit: "
            f"wanted {total} rows and {columns[0]} columns"
        )
    return {
        name: Update(down, torch.cat([up[first:end] for first, end in rows.pieces]), scale)
        for name, rows in places.items()
    }


def _scale_beside(path: Path) -> float:
    """Alpha over rank where PEFT or diffusers wrote it beside the tensors; 1 where nothing says it."""
    if path.is_dir() and (path / "adapter_config.json").exists():
        settings, prefix = read_json(path / "adapter_config.json"), ""
    else:
        file = path if path.is_file() else sorted(path.glob("*.safetensors"))[0]
        text = metadata(file).get("lora_adapter_metadata") if file.suffix == ".safetensors" else None
        if text is None:
            return 1.0
        settings, prefix = json.loads(text), "transformer."
    asked = {key.removeprefix(prefix): value for key, value in settings.items()}
    for key in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern"):
        if asked.get(key):
            raise UserError(f"{path}: {key} is {asked[key]!r}: wanted a LoRA without it")
    if "lora_alpha" not in asked or "r" not in asked:
        return 1.0
    return asked["lora_alpha"] / asked["r"]
