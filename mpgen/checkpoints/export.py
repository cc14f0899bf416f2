"""A trained model as safetensors: a folder that diffusers loads, and our full checkpoint with its config beside it.

FOLDER/transformer/     config.json and shards: diffusers' class loads it strictly; without the memory; absent where
                        diffusers' class cannot hold the network
FOLDER/config.json     the card, for `mpgen generate --ckpt_path FOLDER`
FOLDER/mpgen.safetensors     all weights; absent where they are those in transformer/
FOLDER/lora.safetensors     the LoRA adapters of a run that trained some, alone, in diffusers' names, for `--lora`
FOLDER/README.md     the model card, as the Hub shows it
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import Tensor

from mpgen.atomic import permit
from mpgen.backbones.eight_bit import EightBitLinear
from mpgen.backbones.lora import ADAPTER
from mpgen.checkpoints.base import fingerprint
from mpgen.checkpoints.plain import to_plain
from mpgen.checkpoints.readme import readme
from mpgen.checkpoints.runs import CHECKSUM, STEPS, LoadedModel, Trained
from mpgen.checkpoints.sources import BACKBONE, FULL, find_exported
from mpgen.errors import UserError

SHARD = "5GB"
LORA = "lora.safetensors"


def learned_adapters(trained: Trained) -> dict[str, Tensor]:
    """The LoRA adapters that a run trained, in diffusers' names; alpha equals the rank, so no file has to say it."""
    names = [name for name in trained.weights if ADAPTER in name and name.startswith(BACKBONE)]
    return {f"transformer.{name.removeprefix(BACKBONE)}": trained.weights[name].read().clone() for name in names}


def export_model(
    model: LoadedModel, folder: Path, shard: str = SHARD, adapters: Mapping[str, Tensor] | None = None
) -> str | None:
    """Writes `folder`, whole or not at all; it must not be there.

    Args:
        model: what to write, in the dtype of its parameters.
        folder: its place.
        shard: size above which diffusers' part is cut into several files.
        adapters: what `learned_adapters` found, written beside; they are merged into the model already.

    Returns:
        Why diffusers' class cannot hold the network; None where it can.

    Raises:
        UserError: when the folder is there.
    """
    if folder.exists():
        raise UserError(f"{folder} exists: wanted a new folder (--output)")
    if any(isinstance(layer, EightBitLinear) for layer in model.denoiser.modules()):
        raise UserError("weights in 8 bits cannot be exported: wanted the model without block_weights")
    described = model.card
    obstacle, config, tensors = None, {}, {}
    try:
        config, tensors = model.denoiser.backbone.to_released()
    except UserError as error:
        obstacle = str(error)
    half_written = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    half_written.mkdir(parents=True)
    try:
        if obstacle is None:
            _write_transformer(half_written / "transformer", config, tensors, shard)
        if model.denoiser.memory is not None or obstacle is not None:
            state = {name: tensor.contiguous() for name, tensor in model.denoiser.state_dict().items()}
            save_file(state, half_written / FULL, metadata={"format": "pt"})
            permit(half_written / FULL)
        else:  # as wide as released networks are, see `to_released`
            backbone = to_plain(type(model.denoiser.backbone.config).from_released(config))
            described = described | {"denoiser": described["denoiser"] | {"backbone": backbone}}
        if adapters:
            parts = {name: tensor.to(next(model.denoiser.parameters()).dtype) for name, tensor in adapters.items()}
            save_file(parts, half_written / LORA, metadata={"format": "pt"})
            permit(half_written / LORA)
        card = described | {STEPS: model.steps, CHECKSUM: fingerprint(find_exported(half_written))}
        _write_json(half_written / "config.json", card)
        (half_written / "README.md").write_text(
            readme(model, folder.name, for_diffusers=obstacle is None), encoding="utf-8"
        )
        os.replace(half_written, folder)
    finally:
        shutil.rmtree(half_written, ignore_errors=True)
    return obstacle


def _write_transformer(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], shard: str) -> None:
    folder.mkdir()
    _write_json(folder / "config.json", config)
    pattern = "diffusion_pytorch_model{suffix}.safetensors"
    save_torch_state_dict(tensors, folder, filename_pattern=pattern, max_shard_size=shard)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
