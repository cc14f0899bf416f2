"""A trained model as safetensors: a folder that diffusers loads, and our full checkpoint with its config beside it.

FOLDER/transformer/     config.json and shards: diffusers' FramePack class loads it strictly; without the memory
FOLDER/mpgen.safetensors, FOLDER/config.json     everything, for `mpgen generate --ckpt_path FOLDER`
"""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import Tensor

from mpgen.backbones.hunyuan.model import DiTConfig
from mpgen.checkpoints.released import FRAMEPACK_CLASS, REFINER_RATIO
from mpgen.checkpoints.runs import UPDATES, LoadedModel
from mpgen.checkpoints.sources import FULL
from mpgen.checkpoints.weights import MEMORY
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError

SHARD = "5GB"
HISTORY_PATCH = 2  # diffusers' history embeddings have this patch whatever `patch_size` says


def export_model(model: LoadedModel, folder: Path, shard: str = SHARD) -> None:
    """Writes `folder`, whole or not at all; it must not be there.

    Args:
        model: what to write, in the dtype of its parameters.
        folder: its place.
        shard: size above which diffusers' part is cut into several files.

    Raises:
        UserError: when the folder is there or diffusers' class cannot hold the network.
    """
    if folder.exists():
        raise UserError(f"{folder} exists: wanted a new folder (--output)")
    config = diffusers_config(model.denoiser.config)
    half_written = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    transformer = half_written / "transformer"
    transformer.mkdir(parents=True)
    try:
        _write_json(transformer / "config.json", config)
        save_torch_state_dict(
            diffusers_state(model.denoiser),
            transformer,
            filename_pattern="diffusion_pytorch_model{suffix}.safetensors",
            max_shard_size=shard,
        )
        state = {name: tensor.contiguous() for name, tensor in model.denoiser.state_dict().items()}
        save_file(state, half_written / FULL, metadata={"format": "pt"})
        _write_json(half_written / "config.json", model.card | {UPDATES: model.updates})
        os.replace(half_written, folder)
    finally:
        shutil.rmtree(half_written, ignore_errors=True)


def diffusers_config(dit: DiTConfig) -> dict[str, Any]:
    """`config.json` of diffusers' FramePack class for these sizes.

    Raises:
        UserError: when the class has no such network.
    """
    if dit.patch_size != HISTORY_PATCH:
        raise UserError(f"patch_size {dit.patch_size}: diffusers' class has patches of {HISTORY_PATCH} in its history")
    if _refiner_ratio(dit) > REFINER_RATIO:
        raise UserError(f"refiner_mlp_ratio {_refiner_ratio(dit)}: diffusers' class has at most {REFINER_RATIO}")
    return {
        "_class_name": FRAMEPACK_CLASS,
        "in_channels": dit.in_channels,
        "out_channels": dit.in_channels,
        "num_attention_heads": dit.num_attention_heads,
        "attention_head_dim": dit.attention_head_dim,
        "num_layers": dit.num_layers,
        "num_single_layers": dit.num_single_layers,
        "num_refiner_layers": dit.num_refiner_layers,
        "mlp_ratio": dit.mlp_ratio,
        "patch_size": dit.patch_size,
        "patch_size_t": dit.patch_size_t,
        "qk_norm": "rms_norm",
        "guidance_embeds": True,
        "text_embed_dim": dit.text_embed_dim,
        "pooled_projection_dim": dit.pooled_projection_dim,
        "rope_theta": dit.rope_theta,
        "rope_axes_dim": list(dit.rope_axes_dim),
        "image_condition_type": None,
        "has_image_proj": True,
        "image_proj_dim": dit.image_proj_dim,
        "has_clean_x_embedder": True,
    }


def diffusers_state(denoiser: Denoiser) -> dict[str, Tensor]:
    """The backbone's tensors in diffusers' shapes.

    Its text refiner is four widths wide inside; a narrower one gets hidden units of zero weight, which change nothing.
    """
    hidden = int(denoiser.config.width * REFINER_RATIO)
    state = {}
    for name, tensor in denoiser.state_dict().items():
        if name.startswith(MEMORY):
            continue
        if "refiner_blocks" in name and ".ff.net.0.proj." in name:
            tensor = F.pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, hidden - tensor.shape[0]))
        elif name.endswith(".ff.net.2.weight") and "refiner_blocks" in name:
            tensor = F.pad(tensor, (0, hidden - tensor.shape[1]))
        state[name] = tensor.contiguous()
    return state


def _refiner_ratio(dit: DiTConfig) -> float:
    return dit.mlp_ratio if dit.refiner_mlp_ratio is None else dit.refiner_mlp_ratio


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
