"""Wan's own names of its parameters, and the released (diffusers) names they became: one literal table.

A row names one layer, or one tensor where it has no dot and kind. Helios' history patches are in no row: Wan has none.
Plain Wan of diffusers differs from Helios in one name, that of the last table.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from mpgen.backbones.base import Rows

_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
LAYERS: Mapping[str, str] = MappingProxyType(
    {
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "text_embedding.2": "condition_embedder.text_embedder.linear_2",
        "time_embedding.0": "condition_embedder.time_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "time_projection.1": "condition_embedder.time_proj",
        **{f"blocks.{{}}.self_attn.{a}": f"blocks.{{}}.attn1.{b}" for a, b in _ATTENTION.items()},
        **{f"blocks.{{}}.cross_attn.{a}": f"blocks.{{}}.attn2.{b}" for a, b in _ATTENTION.items()},
        "blocks.{}.norm3": "blocks.{}.norm2",  # the one with weights
        "blocks.{}.ffn.0": "blocks.{}.ffn.net.0.proj",
        "blocks.{}.ffn.2": "blocks.{}.ffn.net.2",
        "head.head": "proj_out",
    }
)
TABLES: Mapping[str, str] = MappingProxyType(
    {
        "blocks.{}.modulation": "blocks.{}.scale_shift_table",
        "head.modulation": "norm_out.scale_shift_table",
        "scale_shift_table": "norm_out.scale_shift_table",
    }
)
PREFIX = "model.diffusion_model."  # some publishers of single files put it before every name


def released_name(origin: str) -> str | None:
    """The released name of a tensor or layer of Wan's; None for a name that it has not."""
    origin = origin.removeprefix(PREFIX)
    layer, dot, kind = origin.rpartition(".")
    if kind not in ("weight", "bias"):
        layer, dot, kind = origin, "", ""
    number = re.search(r"(?<=blocks\.)\d+", layer)
    pattern = re.sub(r"(?<=blocks\.)\d+", "{}", layer)
    name = LAYERS.get(pattern) or (None if kind else TABLES.get(pattern))
    return None if name is None else name.format(number[0] if number else "") + dot + kind


def locate(origin: str, num_rows: Mapping[str, int]) -> dict[str, Rows]:
    """Which parameter the tensor `origin` holds, released or Wan's own; see `Backbone.locate`."""
    own = origin.removeprefix(PREFIX)
    name = own if own in num_rows else released_name(own)
    return {name: Rows(origin, ((0, num_rows[name]),))} if name in num_rows else {}
