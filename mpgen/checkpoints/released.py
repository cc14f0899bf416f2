"""A network of released weights: sizes from `config.json`, tensors straight from the files, LoRA added on the way.

A released folder is diffusers' (the transformer's own, or a pipeline's with a `transformer` folder); a file or folder
of Tencent's says nothing of its sizes, so they are those of the config given, by default the released 13B.
"""

from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from mpgen.backbones.hunyuan.model import DiTConfig
from mpgen.backbones.lora import ADAPTER, updated_layers
from mpgen.checkpoints.base import open_weights
from mpgen.checkpoints.lora import read_lora
from mpgen.checkpoints.sources import Source, find_transformer, in_released_names, open_source, read_json
from mpgen.checkpoints.weights import FRAMEPACK, MEMORY, fill, lacks
from mpgen.denoiser import Denoiser, DenoiserConfig, make_memory
from mpgen.errors import UserError

FRAMEPACK_CLASS = "HunyuanVideoFramepackTransformer3DModel"  # diffusers' name
CLASSES = (FRAMEPACK_CLASS, "HunyuanVideoTransformer3DModelPacked", "HunyuanVideoTransformer3DModel")
REFINER_RATIO = 4.0  # diffusers' text refiner has this ratio whatever `mlp_ratio` says
# Keys of `config.json` that are no sizes, and what the network does.
BEHAVIOUR: dict[str, tuple[Any, ...]] = {
    "qk_norm": ("rms_norm",),
    "guidance_embeds": (True,),
    "image_condition_type": (None,),
    "has_image_proj": (True,),
    "has_clean_x_embedder": (True,),
}
FRAMEPACK_ONLY = ("has_image_proj", "has_clean_x_embedder", "image_proj_dim")


def load_released(
    path: Path, config: DenoiserConfig | None = None, lora: Sequence[Path] = (), dtype: torch.dtype | None = None
) -> Denoiser:
    """The network of released weights, in evaluation mode and without gradients; peak memory is about the model's size.

    Args:
        path: a released folder, or Tencent's file or folder.
        config: memory, layout and frame indices; the backbone's sizes are those of `config.json` where there is one.
            Without a config there is no memory.
        lora: LoRA files to merge.
        dtype: of the parameters; the widest of the files if None.

    Raises:
        UserError: when it is missing, damaged, of another model, or its names or shapes do not fit.
    """
    folder = find_transformer(Path(path))
    source = open_source(folder)
    config = config or DenoiserConfig(semantic=None)
    described = folder if folder.is_dir() else folder.parent
    if (described / "config.json").exists():
        config = replace(config, dit=read_dit_config(described / "config.json"))
    elif lacks(source, ("double_blocks.",)):
        raise UserError(f"{described / 'config.json'} does not exist: wanted it beside released weights")
    dtype = dtype or _widest(source)
    with torch.device("meta"):
        denoiser = Denoiser(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in denoiser.state_dict().items()}
    updates = [read_lora(file, shapes) for file in lora]
    _make_what_is_new(denoiser, config, source, dtype, seed=0)
    fill(denoiser, source, Path(path), updates, dtype)
    return denoiser.eval().requires_grad_(False)


def begin_from(path: Path, config: DenoiserConfig, seed: int) -> tuple[Denoiser, frozenset[str]]:
    """A network to train further, in the dtypes of its files, and the names of what came from there.

    Layers that the source lacks begin as `fill` says. Peak memory is about the model's size.

    Args:
        path: any source of weights.
        config: the network.
        seed: of the layers that the source lacks.

    Raises:
        UserError: when it is missing, damaged, or its names or shapes do not fit.
    """
    source = open_weights(path)
    with torch.device("meta"):
        denoiser = Denoiser(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in denoiser.state_dict().items()}
    _make_what_is_new(denoiser, config, source, torch.float32, seed)
    fill(denoiser, source, Path(path))
    return denoiser, frozenset(shapes.keys() & in_released_names(source, shapes).keys())


def read_dit_config(path: Path) -> DiTConfig:
    """The sizes in a released `config.json`.

    Raises:
        UserError: when it is of another model, or asks for something that the network does not do.
    """
    given = read_json(path)
    name = given.get("_class_name")
    if name not in CLASSES:
        raise UserError(f"{path} is of a {name}: wanted one of {', '.join(CLASSES)}")
    sizes = {f.name: f for f in fields(DiTConfig) if f.name != "refiner_mlp_ratio"}
    settings = {key: value for key, value in given.items() if not key.startswith("_")}
    plain_hunyuan = name == CLASSES[2]
    for key, value in settings.items():
        if key == "out_channels":
            allowed: tuple[Any, ...] = (settings.get("in_channels", 16), None)
        elif key in sizes or (plain_hunyuan and key in FRAMEPACK_ONLY):
            continue
        else:
            allowed = BEHAVIOUR.get(key, (None, False))
        if value not in allowed:
            raise UserError(f"{path}: {key} is {value!r}, wanted {allowed[0]!r}: this network does nothing else")
    if not plain_hunyuan:
        for key in ("has_image_proj", "has_clean_x_embedder"):
            if not settings.get(key, False):  # diffusers' defaults are false, with which its own class cannot run
                raise UserError(f"{path}: {key} is not true: wanted weights of FramePack")
    chosen = {key: settings[key] for key in sizes if key in settings}
    for key, value in chosen.items():
        default = sizes[key].default
        assert default is not MISSING
        kinds = (list, tuple) if isinstance(default, tuple) else (int, float) if isinstance(default, float) else (int,)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UserError(f"{path}: {key} is {value!r}, wanted something like {default!r}")
    if "rope_axes_dim" in chosen:
        chosen["rope_axes_dim"] = tuple(chosen["rope_axes_dim"])
    try:
        return DiTConfig(**chosen, refiner_mlp_ratio=REFINER_RATIO)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _widest(source: Source) -> torch.dtype:
    kinds = {stored.dtype for stored in source.values()}
    kinds = {torch.bfloat16 if kind.itemsize == 1 else kind for kind in kinds if kind.is_floating_point}
    return reduce(torch.promote_types, kinds) if kinds else torch.float32


def _make_what_is_new(
    denoiser: Denoiser, config: DenoiserConfig, source: Source, dtype: torch.dtype, seed: int
) -> None:
    """Storage for the layers that the source has not; `fill` sets what matters of their values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if lacks(source, (MEMORY,)) and config.semantic is not None:
            denoiser.semantic_pack = make_memory(config).to(dtype)
        if lacks(source, FRAMEPACK):
            denoiser.clean_x_embedder.to_empty(device="cpu").to(dtype)
            projection = denoiser.image_projection.to_empty(device="cpu").to(dtype)
            for layer in (projection.up, projection.down):
                torch.nn.init.xavier_uniform_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
        if not any(ADAPTER in name for name in source):
            for layer in updated_layers(denoiser):
                layer.begin_anew(dtype)
