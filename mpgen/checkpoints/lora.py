"""LoRA files, added to the weights while they are loaded: W + scale * up @ down.

Families of names: diffusers' and PEFT's (`BLOCK.0.attn.to_q.lora_A.weight`, also with an adapter's name before
`weight`), diffusers' old one (`lora.down`, `lora.up`), kohya's with underscores (`lora_unet_BLOCK_0_attn_to_q.lora_up`,
`.alpha`), ComfyUI's (`diff` and `diff_b` beside, whole differences of a weight or a bias). Any of them may use another
publisher's layers, whose fused rows are given to the layers they became. Our own checkpoints use the first one.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpgen.backbones.base import Backbone, Rows
from mpgen.backbones.lora import ADAPTER
from mpgen.checkpoints.sources import BACKBONE, Source, metadata, open_source, read_json
from mpgen.errors import UserError

PREFIXES = re.compile(
    r"^(base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|transformer\.|unet\.|dit\.|model\.|pipe\.|module\."
    r"|_orig_mod\.|backbone\.)+"
)
KOHYA = re.compile(r"^lora_(unet|transformer)_")
NAME = re.compile(
    r"^(?P<layer>.+?)\.(?:(?P<half>lora_A|lora_B|lora[_.]down|lora[_.]up)"
    r"(?:\.(?P<adapter>(?!weight$|bias$)[^.]+))?(?:\.weight)?|(?P<whole>alpha|diff|diff_b))$"
)
OTHER_KINDS = re.compile(r"\.(lora_magnitude_vector|dora_scale|hada_w\d|lokr_w\d|lora_mid)")  # not W + up @ down
KINDS = {"lora_A": "down", "lora_down": "down", "lora.down": "down", "lora_B": "up", "lora_up": "up", "lora.up": "up"}


@dataclass(frozen=True)
class LoraFile:
    """A file and how much of it is added.

    Args:
        path: a safetensors file, a pickled one of plain tensors, or a folder that holds one.
        strength: all of it is multiplied by this.
    """

    path: Path
    strength: float = 1.0

    @classmethod
    def parse(cls, given: "Path | LoraFile") -> "LoraFile":
        """`FILE` or `FILE@STRENGTH`, such as style.safetensors@0.8."""
        if isinstance(given, LoraFile):
            return given
        path, at, strength = str(given).rpartition("@")
        if not at or Path(given).exists():
            return cls(Path(given))
        try:
            number = float(strength)
            if not isfinite(number):
                raise ValueError(strength)
            return cls(Path(path), number)
        except ValueError:
            raise UserError(f"--lora {given}: {strength!r} is not a strength: wanted FILE or FILE@0.8") from None


@dataclass(frozen=True)
class Adapter:
    """What a LoRA adds to one weight or bias.

    Args:
        down: to the rank; None where `up` is the whole difference.
        up: from the rank; only the rows of this weight.
        scale: alpha over rank, times the strength.
    """

    down: Tensor | None
    up: Tensor
    scale: float

    def added_to(self, weight: Tensor) -> Tensor:
        """The sum, in fp32."""
        up = self.up.float()
        product = up if self.down is None else up.flatten(1) @ self.down.float().flatten(1)
        return weight.float() + self.scale * product.reshape(weight.shape)


def read_lora(given: Path | LoraFile, backbone: Backbone) -> list[dict[str, Adapter]]:
    """The adapters of a LoRA file, by the names of the denoiser's weights; whole differences come last.

    Args:
        given: which, and how much of it.
        backbone: what they adapt.

    Raises:
        UserError: when the file is missing or damaged, holds numbers that are not finite, or a name or shape in it
            fits no layer.
    """
    file = LoraFile.parse(given)
    return _read_adapters(file.path, open_source(file.path), backbone, _scale_beside(file.path), file.strength)


def split_adapters(source: Source, path: Path, backbone: Backbone) -> tuple[Source, list[dict[str, Adapter]]]:
    """A run's weights, and apart from them the adapters that it trained, to be merged into a network without any.

    Args:
        source: the weights.
        path: where they are from, for errors.
        backbone: of the network; where it has adapters itself, nothing is taken apart.
    """
    learned = {name: stored for name, stored in source.items() if ADAPTER in name}
    if not learned or any(ADAPTER in name for name, _ in backbone.named_parameters()):
        return source, []
    plain = {name: stored for name, stored in source.items() if name not in learned}
    return plain, _read_adapters(path, learned, backbone, scale=1.0, strength=1.0)


def _read_adapters(
    path: Path, source: Source, backbone: Backbone, scale: float, strength: float
) -> list[dict[str, Adapter]]:
    """The adapters among named tensors, of which there must be no others.

    Args:
        path: where they are from, for errors.
        source: the tensors.
        backbone: what they adapt.
        scale: of adapters that do not say theirs.
        strength: of all.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}
    reader = _Reader(path, source, backbone, shapes)
    low_rank: dict[str, Adapter] = {}
    whole: dict[str, Adapter] = {}
    for layer, found in reader.parts().items():
        located = reader.layers[layer]
        if "up" in found:
            low_rank |= reader.low_rank(located, found, scale, strength)
        if "diff" in found:
            whole |= reader.whole(located, found["diff"], strength)
        if "diff_b" in found:
            biases = {f"{name.removesuffix('.weight')}.bias": rows for name, rows in located.items()}
            whole |= reader.whole(biases, found["diff_b"], strength)
    return [low_rank, whole]


class _Reader:
    """One file's tensors beside the layers that they may belong to."""

    def __init__(self, path: Path, source: Source, backbone: Backbone, shapes: Mapping[str, tuple[int, ...]]):
        self.path, self.source, self.shapes = path, source, shapes
        self.layers = _layers(backbone, shapes)
        self.flat = {layer.replace(".", "_"): layer for layer in self.layers}

    def parts(self) -> dict[str, dict[str, str]]:
        """The names of each layer's tensors: down, up, alpha, diff, diff_b."""
        parts: dict[str, dict[str, str]] = {}
        strangers, twice, adapters = [], [], set()
        for name in self.source:
            match = NAME.match(name)
            layer = None if match is None else self._meant(match["layer"])
            if layer is None:
                strangers.append(name)
                continue
            kind = match["whole"] or KINDS[match["half"]]
            if (other := parts.setdefault(layer, {}).setdefault(kind, name)) != name:
                twice.append(f"{other}, {name}")
            if match["half"]:
                adapters.add(match["adapter"] or "default")
        if strangers or not parts:
            said = f"{len(strangers)} unexpected ({', '.join(strangers[:8])}{', ...' if len(strangers) > 8 else ''})"
            if any(OTHER_KINDS.search(name) for name in strangers):
                said += "; DoRA, LoHa and LoKr are no plain LoRA: wanted a plain one"
            raise UserError(f"{self.path} is no LoRA of this model: {said if strangers else 'it is empty'}")
        if len(adapters) > 1:
            raise UserError(f"{self.path} holds the adapters {', '.join(sorted(adapters))}: wanted one in a file")
        if twice:
            raise UserError(f"{self.path} holds a layer twice ({twice[0]}): wanted one LoRA in a file")
        halves = [layer for layer, found in parts.items() if ("down" in found) != ("up" in found)]
        if halves:
            raise UserError(f"{self.path} holds half an adapter of {', '.join(halves[:8])}: wanted down and up")
        return parts

    def low_rank(
        self, located: Mapping[str, Rows], found: Mapping[str, str], scale: float, strength: float
    ) -> dict[str, Adapter]:
        down, up = self._read(found["down"]), self._read(found["up"])
        rank = len(down) if down.ndim > 1 else 0
        if rank and "alpha" in found:
            scale = self._number(found["alpha"]) / rank
        total = sum(self.shapes[name][0] for name in located)
        columns = [torch.Size(self.shapes[name][1:]).numel() for name in located]
        shapes = tuple(up.shape[:1]), up.numel(), {down.numel()}
        if not rank or shapes != ((total,), total * rank, {rank * number for number in columns}):
            raise UserError(
                f"{self.path}: {found['up']} {list(up.shape)} and {found['down']} {list(down.shape)} do not fit: "
                f"wanted {total} rows and {columns[0]} columns"
            )
        return {BACKBONE + name: Adapter(down, _cut(up, rows), scale * strength) for name, rows in located.items()}

    def whole(self, located: Mapping[str, Rows], tensor: str, strength: float) -> dict[str, Adapter]:
        difference = self._read(tensor)
        shapes = [self.shapes.get(name) for name in located]
        total = sum(shape[0] for shape in shapes if shape)
        if None in shapes or difference.shape[0] != total or {tuple(difference.shape[1:])} != {s[1:] for s in shapes}:
            raise UserError(f"{self.path}: {tensor} {list(difference.shape)} does not fit {', '.join(located)}")
        return {BACKBONE + name: Adapter(None, _cut(difference, rows), strength) for name, rows in located.items()}

    def _number(self, name: str) -> float:
        alpha = self._read(name)
        if alpha.numel() != 1:
            raise UserError(f"{self.path}: {name} holds {alpha.numel()} numbers: wanted one")
        return float(alpha)

    def _read(self, name: str) -> Tensor:
        tensor = self.source[name].read().clone()
        if not torch.isfinite(tensor.float()).all():
            raise UserError(f"{self.path}: {name} holds numbers that are not finite: wanted another LoRA")
        return tensor

    def _meant(self, name: str) -> str | None:
        """The layer that a LoRA means: prefixes removed, and kohya's underscores made dots again."""
        if KOHYA.match(name):
            return self.flat.get(KOHYA.sub("", name))
        plain = PREFIXES.sub("", name)
        return plain if plain in self.layers else None


def _cut(tensor: Tensor, rows: Rows) -> Tensor:
    return torch.cat([tensor[first:end] for first, end in rows.pieces])


def _layers(backbone: Backbone, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, Rows]]:
    """Every layer that a LoRA may name, under any published name: which weights it is, and which rows each gets."""
    num_rows = {name: shape[0] for name, shape in shapes.items()}
    layers = {
        name.removesuffix(".weight"): {name: Rows(name, ((0, shape[0]),))}
        for name, shape in shapes.items()
        if name.endswith(".weight")
    }
    for origin in backbone.origin_layers():
        for number in count():
            layer = origin.format(number)
            located = backbone.locate(f"{layer}.weight", num_rows)
            if located:
                layers[layer] = located
            if not located or layer == origin:
                break
    return layers


def _scale_beside(path: Path) -> float:
    """Alpha over rank where PEFT or diffusers wrote it beside the tensors; 1 where nothing says it."""
    folder, files = (path, sorted(path.glob("*.safetensors"))) if path.is_dir() else (path.parent, [path])
    settings: dict[str, Any] = {}
    if (folder / "adapter_config.json").exists() and (path.is_dir() or path.name.startswith("adapter_model")):
        settings = read_json(folder / "adapter_config.json")
    elif files and files[0].suffix == ".safetensors" and "lora_adapter_metadata" in metadata(files[0]):
        settings = _described(path, metadata(files[0])["lora_adapter_metadata"])
    for key in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern"):
        if settings.get(key):
            raise UserError(f"{path}: {key} is {settings[key]!r}: wanted a LoRA without it")
    if "lora_alpha" not in settings or "r" not in settings:
        return 1.0
    try:
        scale = float(settings["lora_alpha"]) / float(settings["r"])
        if not isfinite(scale):
            raise ValueError(scale)
        return scale
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        said = f"lora_alpha {settings['lora_alpha']!r} and r {settings['r']!r}"
        raise UserError(f"{path}: {said} give no scale: wanted two numbers, r more than 0") from None


def _described(path: Path, header: str) -> dict[str, Any]:
    """What diffusers wrote into the file's header."""
    try:
        found = json.loads(header)
        if not isinstance(found, dict):
            raise ValueError(header)
        return {key.removeprefix("transformer."): value for key, value in found.items()}
    except ValueError:
        raise UserError(f"{path}: lora_adapter_metadata in its header is damaged or no JSON object") from None
