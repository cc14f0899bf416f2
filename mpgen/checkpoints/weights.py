"""Tensors from a source into a network, one at a time; what does not fit is listed before anything is copied."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mpgen.backbones.lora import ADAPTER
from mpgen.checkpoints.base import open_weights
from mpgen.checkpoints.lora import Update, merged_updates
from mpgen.checkpoints.sources import Source, in_released_names
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError

MEMORY = "semantic_pack."
# What FramePack added to HunyuanVideo: absent, all of it, from a plain HunyuanVideo checkpoint.
FRAMEPACK = ("clean_x_embedder.", "image_projection.")


def load_weights(denoiser: Denoiser, path: Path) -> None:
    """Copies weights into `denoiser`, from any source that `mpgen.checkpoints.sources` knows.

    Of a folder that `mpgen export` wrote all weights are taken, of a pipeline's folder those of its transformer, of a
    run's checkpoint those that it leaves out too.

    Raises:
        UserError: when the path does not exist, cannot be read, or its names or shapes do not fit.
    """
    fill(denoiser, open_weights(path), Path(path))


def fill(
    denoiser: Denoiser,
    source: Source,
    path: Path,
    updates: Iterable[Mapping[str, Update]] = (),
    dtype: torch.dtype | None = None,
) -> None:
    """Copies `source` into `denoiser`; parameters without storage (on the meta device) get theirs now.

    Without a memory in the source, the memory is made neutral; without FramePack's layers (plain HunyuanVideo), the
    history embeddings are made from the patch embedding by FramePack's recipe and image tokens begin as zeros, our
    choice. The denoiser's own values of these layers must be there then, on a real device; so must those of low-rank
    updates that the source lacks. Such updates in the source are merged where the network has none.

    Args:
        denoiser: the network.
        source: named tensors.
        path: where they are from, for errors.
        updates: LoRA files to add on the way.
        dtype: of parameters that get their storage now; that of the source if None.
    """
    wanted = denoiser.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    source, learned = merged_updates(in_released_names(source, shapes), path, shapes)
    updates = (*updates, learned)
    if not any(ADAPTER in name for name in source):
        wanted = {name: tensor for name, tensor in wanted.items() if ADAPTER not in name}
    absent = tuple(prefix for prefix in (MEMORY, *FRAMEPACK) if lacks(source, (prefix,)))
    gaps = tuple(prefix for prefix in absent if prefix == MEMORY or lacks(source, FRAMEPACK))
    _check(wanted, source, path, gaps)
    for name, stored in source.items():
        tensor = stored.read()
        for update in updates:
            if name in update:
                tensor = update[name].added_to(tensor)
        own = torch.bfloat16 if stored.dtype.itemsize == 1 else stored.dtype  # no layer computes in 8 bits
        _place(denoiser, name, tensor, dtype or own)
    if FRAMEPACK[0] in gaps:
        denoiser.clean_x_embedder.initialise_from(denoiser.x_embedder)
        nn.init.zeros_(denoiser.image_projection.down.weight)
        nn.init.zeros_(denoiser.image_projection.down.bias)
    if MEMORY in gaps:
        denoiser.begin_memory()


@torch.no_grad()
def lay_over(denoiser: Denoiser, source: Source, path: Path) -> None:
    """Copies a part of a network's weights into `denoiser`; low-rank updates are added to what is there.

    Raises:
        UserError: when a name or a shape does not fit.
    """
    wanted = denoiser.state_dict()
    plain, updates = merged_updates(source, path, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    for name, stored in plain.items():
        if name not in wanted or tuple(wanted[name].shape) != stored.shape:
            there = list(wanted[name].shape) if name in wanted else "absent"
            raise UserError(f"--memory {path} does not fit --model: {name} is {list(stored.shape)} there, {there} here")
    for name, stored in plain.items():
        wanted[name].copy_(stored.read())
    for name, update in updates.items():
        wanted[name].copy_(update.added_to(wanted[name]))


def lacks(source: Source, prefixes: tuple[str, ...]) -> bool:
    """Whether no name of the source begins with any of the prefixes."""
    return not any(name.startswith(prefixes) for name in source)


def _check(wanted: Mapping[str, Tensor], source: Source, path: Path, gaps: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in source and not name.startswith(gaps)]
    unexpected = [name for name in source if name not in wanted]
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
    if parameter.is_meta:
        # A copy, because the tensor may be a view of the mapped file.
        kept = tensor.to(dtype, copy=True)
        setattr(module, leaf, nn.Parameter(kept, requires_grad=parameter.requires_grad))
    else:
        parameter.copy_(tensor)
