"""The network as diffusers' FramePack class has it: `config.json` and tensors."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mpgen.backbones.hunyuan.config import FRAMEPACK_CLASS, REFINER_RATIO, HunyuanConfig
from mpgen.errors import UserError

HISTORY_PATCH = 2  # diffusers' history embeddings have this patch whatever `patch_size` says


def released_card(config: HunyuanConfig) -> dict[str, Any]:
    """`config.json` of diffusers' FramePack class for these sizes.

    Raises:
        UserError: when the class has no such network.
    """
    if config.patch_size != HISTORY_PATCH:
        raise UserError(
            f"patch_size {config.patch_size}: diffusers' class has patches of {HISTORY_PATCH} in its history"
        )
    if config.refiner_ratio > REFINER_RATIO:
        raise UserError(f"refiner_mlp_ratio {config.refiner_ratio}: diffusers' class has at most {REFINER_RATIO}")
    return {
        "_class_name": FRAMEPACK_CLASS,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "num_attention_heads": config.num_attention_heads,
        "attention_head_dim": config.attention_head_dim,
        "num_layers": config.num_layers,
        "num_single_layers": config.num_single_layers,
        "num_refiner_layers": config.num_refiner_layers,
        "mlp_ratio": config.mlp_ratio,
        "patch_size": config.patch_size,
        "patch_size_t": config.patch_size_t,
        "qk_norm": "rms_norm",
        "guidance_embeds": True,
        "text_embed_dim": config.text_embed_dim,
        "pooled_projection_dim": config.pooled_projection_dim,
        "rope_theta": config.rope_theta,
        "rope_axes_dim": list(config.rope_axes_dim),
        "image_condition_type": None,
        "has_image_proj": True,
        "image_proj_dim": config.image_proj_dim,
        "has_clean_x_embedder": True,
    }


def released_state(config: HunyuanConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in diffusers' shapes.

    Its text refiner is four widths wide inside; a narrower one gets hidden units of zero weight, which change nothing.
    """
    hidden, released = int(config.width * REFINER_RATIO), {}
    for name, tensor in state.items():
        if "refiner_blocks" in name and ".ff.net.0.proj." in name:
            tensor = F.pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, hidden - tensor.shape[0]))
        elif name.endswith(".ff.net.2.weight") and "refiner_blocks" in name:
            tensor = F.pad(tensor, (0, hidden - tensor.shape[1]))
        released[name] = tensor.contiguous()
    return released
