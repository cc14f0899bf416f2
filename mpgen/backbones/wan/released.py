"""The network as diffusers' Helios class has it: its `config.json`. The tensors are the network's own."""

from typing import Any

from mpgen.backbones.wan.config import BEHAVIOUR, HELIOS_CLASS, WanConfig

HELIOS_KEYS = (
    "eps", "qk_norm", "cross_attn_norm", "added_kv_proj_dim", "guidance_cross_attn", "zero_history_timestep",
    "has_multi_term_memory_patch", "is_amplify_history",
)  # fmt: skip


def released_card(config: WanConfig) -> dict[str, Any]:
    """`config.json` of diffusers' Helios class for these sizes."""
    return {
        "_class_name": HELIOS_CLASS,
        "patch_size": list(config.patch_size),
        "num_attention_heads": config.num_attention_heads,
        "attention_head_dim": config.attention_head_dim,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "text_dim": config.text_dim,
        "freq_dim": config.freq_dim,
        "ffn_dim": config.ffn_dim,
        "num_layers": config.num_layers,
        "rope_dim": list(config.rope_dim),
        "rope_theta": config.rope_theta,
        **{key: BEHAVIOUR[key] for key in HELIOS_KEYS},
    }
