"""A network of released weights: sizes from `config.json`, tensors straight from the files, LoRA added on the way.

A released folder is diffusers' (the transformer's own, or a pipeline's with a `transformer` folder); a file or folder
of another publisher says nothing of its sizes, so they are those of the config given, by default the released ones.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import torch

from mpgen.backbones.base import BackboneConfig
from mpgen.backbones.eight_bit import EightBit, store_blocks
from mpgen.backbones.lora import ADAPTER, adapted_layers
from mpgen.backbones.registry import BACKBONES, RELEASED
from mpgen.checkpoints.base import open_weights
from mpgen.checkpoints.lora import LoraFile, read_lora
from mpgen.checkpoints.scaled import with_scales
from mpgen.checkpoints.sources import (
    BACKBONE,
    FULL,
    MEMORY,
    Source,
    find_transformer,
    in_own_names,
    open_source,
    read_json,
)
from mpgen.checkpoints.weights import fill, lacks
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.errors import UserError
from mpgen.sections import Forward


def load_released(
    path: Path,
    config: DenoiserConfig | None = None,
    lora: Sequence[Path | LoraFile] = (),
    dtype: torch.dtype | None = None,
    eight_bit: EightBit | None = None,
) -> Denoiser:
    """The network of released weights, in evaluation mode and without gradients; peak memory is about the model's size.

    Args:
        path: a released folder, or a file or folder of another publisher that a backbone knows.
        config: memory, layout and frame indices; the backbone is that of `config.json` where there is one. Without a
            config there is no memory.
        lora: LoRA files to merge; a path may end in @STRENGTH.
        dtype: of the parameters; the widest of the files if None.
        eight_bit: keeps the weights of the blocks in 8 bits, each as soon as it is read; None for `dtype`.

    Raises:
        UserError: when it is missing, damaged, of another model, or its names or shapes do not fit.
    """
    folder = find_transformer(Path(path))
    source = open_source(folder)
    described = (folder if folder.is_dir() else folder.parent) / "config.json"
    if described.exists():
        backbone = read_backbone_config(described)
        if config is not None:
            _check_kind(described, backbone, config)
    else:
        backbone = _recognised(source, described) if config is None else config.backbone
    layout = Forward(alone=backbone.sections_alone)
    config = DenoiserConfig(backbone, layout=layout) if config is None else replace(config, backbone=backbone)
    dtype = dtype or _widest(source)
    with torch.device("meta"):
        denoiser = Denoiser(config)
    adapters = [adapter for file in lora for adapter in read_lora(file, denoiser.backbone)]
    _make_what_is_new(denoiser, config, source, dtype, seed=0)
    if eight_bit is not None:
        store_blocks(denoiser.requires_grad_(False).backbone, eight_bit)
    fill(denoiser, source, Path(path), adapters, dtype)
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
    _check_released_folder(Path(path), config)
    source = open_weights(path)
    with torch.device("meta"):
        denoiser = Denoiser(config)
    names = denoiser.state_dict().keys()
    _make_what_is_new(denoiser, config, source, torch.float32, seed)
    fill(denoiser, source, Path(path))
    return denoiser, frozenset(names & in_own_names(with_scales(source, Path(path)), denoiser.backbone).keys())


def _check_released_folder(path: Path, config: DenoiserConfig) -> None:
    """Raises UserError where a released folder is of another backbone, or one that no backbone here is."""
    described = find_transformer(path) / "config.json"
    if not (path / FULL).exists() and described.exists() and "_class_name" in read_json(described):
        _check_kind(described, read_backbone_config(described), config)


def _check_kind(described: Path, found: BackboneConfig, config: DenoiserConfig) -> None:
    if type(found) is not type(config.backbone):
        name = read_json(described)["_class_name"]
        raise UserError(
            f"{described} is of a {name}, which {type(found).__name__} describes, and the model's backbone is "
            f"{type(config.backbone).__name__}: wanted the same (model.denoiser.backbone), or other weights"
        )


def read_backbone_config(path: Path) -> BackboneConfig:
    """The backbone that a released `config.json` describes.

    Raises:
        UserError: when it is of another model, or asks for something that the network does not do.
    """
    card = read_json(path)
    name = card.get("_class_name")
    if name not in RELEASED:
        raise UserError(f"{path} is of a {name}: wanted one of {', '.join(RELEASED)}")
    try:
        return RELEASED[name].from_released(card)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _recognised(source: Source, described: Path) -> BackboneConfig:
    """The backbone, in its released size, that knows these names of another publisher."""
    for config in BACKBONES:
        with torch.device("meta"):
            backbone = config().build()
        num_rows = {name: len(tensor) for name, tensor in backbone.state_dict().items()}
        if any(name not in num_rows and backbone.locate(name, num_rows) for name in source):
            return config()
    raise UserError(f"{described} does not exist: wanted it beside released weights")


def _widest(source: Source) -> torch.dtype:
    kinds = {stored.dtype for stored in source.values()}
    kinds = {torch.bfloat16 if kind.itemsize == 1 else kind for kind in kinds if kind.is_floating_point}
    return reduce(torch.promote_types, kinds) if kinds else torch.float32


def _make_what_is_new(
    denoiser: Denoiser, config: DenoiserConfig, source: Source, dtype: torch.dtype, seed: int
) -> None:
    """Storage for the layers that the source has not; `fill` sets what matters of their values."""
    backbone = denoiser.backbone
    named = in_own_names({name: stored for name, stored in source.items() if "scale" not in name}, backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if lacks(named, (MEMORY,)) and config.memory is not None:
            denoiser.memory = config.memory.build(config.backbone).to(dtype)
        if lacks(named, tuple(BACKBONE + name for name in backbone.additions)):
            for name in backbone.additions:
                backbone.get_submodule(name.removesuffix(".")).to_empty(device="cpu").to(dtype)
        if not any(ADAPTER in name for name in source):
            for layer in adapted_layers(denoiser):
                layer.initialise_adapter(dtype)
