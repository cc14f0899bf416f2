"""Tencent's names of HunyuanVideo's parameters, and the released (diffusers) names they became: one literal table.

A row says which released tensors, one after the other, are the rows of Tencent's. Layers that FramePack added (image
projection, history embeddings) are in no row: Tencent's checkpoint does not have them.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from mpgen.backbones.base import Rows

_REFINER = "context_embedder.token_refiner.refiner_blocks.{}"
_DOUBLE, _SINGLE = "transformer_blocks.{}", "single_transformer_blocks.{}"
_REFINER_ORIGIN, _DOUBLE_ORIGIN = "txt_in.individual_token_refiner.blocks.{}", "double_blocks.{}"
_SINGLE_ORIGIN = "single_blocks.{}"

LAYERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "img_in.proj": ("x_embedder.proj",),
        "time_in.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
        "time_in.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
        "guidance_in.mlp.0": ("time_text_embed.guidance_embedder.linear_1",),
        "guidance_in.mlp.2": ("time_text_embed.guidance_embedder.linear_2",),
        "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
        "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
        "txt_in.input_embedder": ("context_embedder.proj_in",),
        "txt_in.t_embedder.mlp.0": ("context_embedder.time_text_embed.timestep_embedder.linear_1",),
        "txt_in.t_embedder.mlp.2": ("context_embedder.time_text_embed.timestep_embedder.linear_2",),
        "txt_in.c_embedder.linear_1": ("context_embedder.time_text_embed.text_embedder.linear_1",),
        "txt_in.c_embedder.linear_2": ("context_embedder.time_text_embed.text_embedder.linear_2",),
        f"{_REFINER_ORIGIN}.norm1": (f"{_REFINER}.norm1",),
        f"{_REFINER_ORIGIN}.norm2": (f"{_REFINER}.norm2",),
        f"{_REFINER_ORIGIN}.self_attn_qkv": tuple(f"{_REFINER}.attn.to_{x}" for x in "qkv"),
        f"{_REFINER_ORIGIN}.self_attn_proj": (f"{_REFINER}.attn.to_out.0",),
        f"{_REFINER_ORIGIN}.mlp.fc1": (f"{_REFINER}.ff.net.0.proj",),
        f"{_REFINER_ORIGIN}.mlp.fc2": (f"{_REFINER}.ff.net.2",),
        f"{_REFINER_ORIGIN}.adaLN_modulation.1": (f"{_REFINER}.norm_out.linear",),
        f"{_DOUBLE_ORIGIN}.img_mod.linear": (f"{_DOUBLE}.norm1.linear",),
        f"{_DOUBLE_ORIGIN}.txt_mod.linear": (f"{_DOUBLE}.norm1_context.linear",),
        f"{_DOUBLE_ORIGIN}.img_attn_qkv": tuple(f"{_DOUBLE}.attn.to_{x}" for x in "qkv"),
        f"{_DOUBLE_ORIGIN}.txt_attn_qkv": tuple(f"{_DOUBLE}.attn.add_{x}_proj" for x in "qkv"),
        f"{_DOUBLE_ORIGIN}.img_attn_q_norm": (f"{_DOUBLE}.attn.norm_q",),
        f"{_DOUBLE_ORIGIN}.img_attn_k_norm": (f"{_DOUBLE}.attn.norm_k",),
        f"{_DOUBLE_ORIGIN}.txt_attn_q_norm": (f"{_DOUBLE}.attn.norm_added_q",),
        f"{_DOUBLE_ORIGIN}.txt_attn_k_norm": (f"{_DOUBLE}.attn.norm_added_k",),
        f"{_DOUBLE_ORIGIN}.img_attn_proj": (f"{_DOUBLE}.attn.to_out.0",),
        f"{_DOUBLE_ORIGIN}.txt_attn_proj": (f"{_DOUBLE}.attn.to_add_out",),
        f"{_DOUBLE_ORIGIN}.img_mlp.fc1": (f"{_DOUBLE}.ff.net.0.proj",),
        f"{_DOUBLE_ORIGIN}.img_mlp.fc2": (f"{_DOUBLE}.ff.net.2",),
        f"{_DOUBLE_ORIGIN}.txt_mlp.fc1": (f"{_DOUBLE}.ff_context.net.0.proj",),
        f"{_DOUBLE_ORIGIN}.txt_mlp.fc2": (f"{_DOUBLE}.ff_context.net.2",),
        f"{_SINGLE_ORIGIN}.modulation.linear": (f"{_SINGLE}.norm.linear",),
        f"{_SINGLE_ORIGIN}.linear1": (*(f"{_SINGLE}.attn.to_{x}" for x in "qkv"), f"{_SINGLE}.proj_mlp"),
        f"{_SINGLE_ORIGIN}.linear2": (f"{_SINGLE}.proj_out",),
        f"{_SINGLE_ORIGIN}.q_norm": (f"{_SINGLE}.attn.norm_q",),
        f"{_SINGLE_ORIGIN}.k_norm": (f"{_SINGLE}.attn.norm_k",),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    }
)
# How ComfyUI spells some of Tencent's layers.
COMFYUI = (
    (r"^(double_blocks\.\d+\.(?:img|txt)_attn)\.(qkv|proj)$", r"\1_\2"),
    (r"(_mod|\.modulation)\.lin$", r"\1.linear"),
    (r"(_mlp|refiner\.blocks\.\d+\.mlp)\.0$", r"\1.fc1"),
    (r"(_mlp|refiner\.blocks\.\d+\.mlp)\.2$", r"\1.fc2"),
    (r"(individual_token_refiner\.blocks\.\d+)\.self_attn\.", r"\1.self_attn_"),
)
COMFYUI_LAYERS = (
    *(f"double_blocks.{{}}.{s}_{part}" for s in ("img", "txt") for part in ("attn.qkv", "attn.proj", "mlp.0", "mlp.2")),
    *(f"double_blocks.{{}}.{s}_mod.lin" for s in ("img", "txt")),
    "single_blocks.{}.modulation.lin",
    *(f"{_REFINER_ORIGIN}.{part}" for part in ("self_attn.qkv", "self_attn.proj", "mlp.0", "mlp.2")),
)
# Tencent's last modulation gives shift, then scale; diffusers' gives scale, then shift.
SWAPPED = "norm_out.linear"


def released_names(origin: str) -> tuple[str, ...]:
    """The released names of a tensor or layer of Tencent's, in the order of its rows; none for a name it has not."""
    layer, dot, kind = origin.rpartition(".")
    if kind not in ("weight", "bias"):
        layer, dot, kind = origin, "", ""
    for spelling, own in COMFYUI:
        layer = re.sub(spelling, own, layer)
    row = LAYERS.get(re.sub(r"(?<=blocks\.)\d+", "{}", layer), ())
    number = re.search(r"(?<=blocks\.)\d+", layer)
    return tuple(name.format(number[0] if number else "") + dot + kind for name in row)


def locate(origin: str, num_rows: Mapping[str, int]) -> dict[str, Rows]:
    """Which parameters the tensor `origin` holds, released or Tencent's; see `Backbone.locate`."""
    if origin in num_rows:
        return {origin: Rows(origin, ((0, num_rows[origin]),))}
    names, located, first = released_names(origin), {}, 0
    if any(name not in num_rows for name in names):
        return {}
    for name in names:
        end = first + num_rows[name]
        located[name] = Rows(origin, ((first, end),))
        if name.startswith(SWAPPED):
            middle = (first + end) // 2
            located[name] = Rows(origin, ((middle, end), (first, middle)))
        first = end
    return located
