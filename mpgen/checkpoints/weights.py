"""Tensors from a source into a network, one at a time; what does not fit is listed before anything is copied."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mpgen.backbones.eight_bit import EightBitLinear
from mpgen.backbones.lora import ADAPTER
from mpgen.checkpoints.base import open_weights
from mpgen.checkpoints.lora import Adapter, split_adapters
from mpgen.checkpoints.scaled import with_scales
from mpgen.checkpoints.sources import BACKBONE, MEMORY, Source, in_own_names
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError


def load_weights(denoiser: Denoiser, path: Path) -> None:
    """Copies weights into `denoiser`, from any source that `mpgen.checkpoints.sources` knows.

    Of a folder that `mpgen export` wrote all weights are taken, of a pipeline's folder those of its transformer, of a
    run's checkpoint those that it names too.

    Raises:
        UserError: when the path does not exist, cannot be read, or its names or shapes do not fit.
    """
    fill(denoiser, open_weights(path), Path(path))


def fill(
    denoiser: Denoiser,
    source: Source,
    path: Path,
    adapters: Iterable[Mapping[str, Adapter]] = (),
    dtype: torch.dtype | None = None,
) -> None:
    """Copies `source` into `denoiser`; parameters without storage (on the meta device) get theirs now.

    A source without a memory leaves the memory at its initial values; one without what FramePack added to the original
    model gets those layers by FramePack's recipe. The denoiser's own values of these layers must be there then, on a
    real device; so must those of adapters that the source lacks. Adapters in the source are merged where the network
    has none.

    Args:
        denoiser: the network.
        source: named tensors.
        path: where they are from, for errors.
        adapters: LoRA files to merge.
        dtype: of parameters that get their storage now; that of the source if None.
    """
    backbone = denoiser.backbone
    wanted = denoiser.state_dict()
    source, learned = split_adapters(in_own_names(with_scales(source, path), backbone), path, backbone)
    adapters = (*adapters, *learned)
    if not any(ADAPTER in name for name in source):
        wanted = {name: tensor for name, tensor in wanted.items() if ADAPTER not in name}
    additions = tuple(BACKBONE + name for name in backbone.additions)
    lacks_memory, lacks_additions = lacks(source, (MEMORY,)), lacks(source, additions)
    _check(wanted, source, path, (MEMORY,) * lacks_memory + additions * lacks_additions)
    for name, stored in source.items():
        tensor = stored.read()
        for adapter in adapters:
            if name in adapter:
                tensor = adapter[name].added_to(tensor)
        refuse_nonfinite(tensor, path, name)
        _place(denoiser, name, tensor, dtype or stored.dtype)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        if lacks_additions:
            backbone.initialise_additions()
        if lacks_memory and denoiser.memory is not None:
            denoiser.memory.initialise_from(backbone)


@torch.no_grad()
def override(denoiser: Denoiser, source: Source, path: Path) -> None:
    """Copies a part of a network's weights into `denoiser`; adapters are added to what is there.

    Raises:
        UserError: when a name or a shape does not fit.
    """
    wanted = denoiser.state_dict()
    plain, adapters = split_adapters(source, path, denoiser.backbone)
    for name, stored in plain.items():
        if name not in wanted or tuple(wanted[name].shape) != stored.shape:
            there = list(wanted[name].shape) if name in wanted else "absent"
            raise UserError(f"--memory {path} does not fit --model: {name} is {list(stored.shape)} there, {there} here")
    for name, stored in plain.items():
        tensor = stored.read()
        refuse_nonfinite(tensor, path, name)
        _place(denoiser, name, tensor, stored.dtype)
    for adapter in adapters:
        for name, own in adapter.items():
            layer = denoiser.get_submodule(name.rpartition(".")[0])
            now = layer.values if isinstance(layer, EightBitLinear) and name.endswith(".weight") else wanted[name]
            _place(denoiser, name, own.added_to(now), now.dtype)


def refuse_nonfinite(tensor: Tensor, path: Path, name: str) -> None:
    """Raises UserError where a weight is not finite as fp32: what it is part of would come out black."""
    if not torch.isfinite(tensor.float() if tensor.dtype == torch.float64 else tensor).all():
        raise UserError(f"{path}: {name} holds numbers that are not finite: wanted another checkpoint")


def lacks(source: Source, prefixes: tuple[str, ...]) -> bool:
    """Whether no name of the source begins with any of the prefixes."""
    return not any(name.startswith(prefixes) for name in source)


def _check(wanted: Mapping[str, Tensor], source: Source, path: Path, gaps: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in source and not name.startswith(gaps)]
    unexpected = [name for name in source if name not in wanted]
    whole = [name for name, stored in source.items() if not stored.dtype.is_floating_point]
    if whole:
        kind = str(source[whole[0]].dtype).removeprefix("torch.")
        raise UserError(f"{path}: {whole[0]} is in {kind} and has no scale: wanted weights in floating point")
    misshapen = [
        f"{name} {list(stored.shape)} instead of {list(wanted[name].shape)}"
        for name, stored in source.items()
        if name in wanted and stored.shape != tuple(wanted[name].shape)
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if faults:
        raise UserError(f"{path} does not fit the model: " + "; ".join(faults))


@torch.no_grad()
def _place(denoiser: Denoiser, name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    owner, _, leaf = name.rpartition(".")
    module = denoiser.get_submodule(owner)
    parameter = module.get_parameter(leaf)
    if isinstance(module, EightBitLinear) and leaf == "weight":
        module.store(tensor)
    elif parameter.is_meta:
        # A copy, because the tensor may be a view of the mapped file.
        kept = tensor.to(dtype, copy=True)
        setattr(module, leaf, nn.Parameter(kept, requires_grad=parameter.requires_grad))
    else:
        parameter.copy_(tensor)
