"""Sizes of Wan with Helios' packed history, under the names of the released `config.json`."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from mpgen.backbones.base import BackboneConfig, check_counts
from mpgen.conditioning import Widths
from mpgen.errors import UserError

if TYPE_CHECKING:
    from mpgen.backbones.wan.model import Wan

HELIOS_CLASS, PLAIN_CLASS = CLASSES = ("HeliosTransformer3DModel", "WanTransformer3DModel")  # diffusers' names
EPS = 1e-6  # of all norms
# Keys of `config.json` that are no sizes, and what the network does.
BEHAVIOUR: dict[str, Any] = {
    "eps": EPS,
    "qk_norm": "rms_norm_across_heads",
    "cross_attn_norm": True,
    "added_kv_proj_dim": None,
    # Helios'
    "guidance_cross_attn": True,
    "zero_history_timestep": True,
    "has_multi_term_memory_patch": True,
    "is_amplify_history": False,
    # Wan's
    "image_dim": None,
    "pos_embed_seq_len": None,
}
IGNORED = ("history_scale_mode", "rope_max_seq_len")  # of what is off, and of a table that is computed here
OURS = ("text_tokens",)  # fields that no released `config.json` has


@dataclass(frozen=True)
class WanConfig(BackboneConfig):
    """Sizes of the transformer; fields and defaults are those of the released Helios `config.json` (Wan 14B).

    Args:
        in_channels: latent channels.
        num_attention_heads: heads; the width of the model is heads times `attention_head_dim`.
        attention_head_dim: width of a head; the sum of `rope_dim`.
        num_layers: blocks.
        ffn_dim: hidden width of the feed-forward layers.
        patch_size: latent frames (1), rows and columns in a token.
        text_dim: width of the text tokens.
        freq_dim: width of the sinusoid of the time step.
        rope_theta: base of the rotary frequencies.
        rope_dim: channels of a head that turn with time, row and column; each even.
        text_tokens: texts are padded with zeros to so many tokens, or cut, and the padding is attended to: so the
            released weights were trained, with 512.
    """

    released_classes = CLASSES
    released_guidance_scale = 5.0
    distilled_guidance = False
    first_sigma, sections_alone = 0.999, True  # Helios'
    released_fps = 24.0

    in_channels: int = 16
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    num_layers: int = 40
    ffn_dim: int = 13824
    patch_size: tuple[int, int, int] = (1, 2, 2)
    text_dim: int = 4096
    freq_dim: int = 256
    rope_theta: float = 10000.0
    rope_dim: tuple[int, int, int] = (44, 42, 42)
    text_tokens: int = 512

    def __post_init__(self):
        check_counts(self, {"num_layers": 1, "num_attention_heads": 1})
        if self.patch_size[0] != 1:
            raise UserError(f"patch_size {list(self.patch_size)}: wanted 1 latent frame, every one has its own index")
        if sum(self.rope_dim) != self.attention_head_dim or any(d % 2 for d in self.rope_dim):
            raise UserError(
                f"rope_dim {list(self.rope_dim)}: wanted three even numbers that add up to "
                f"attention_head_dim {self.attention_head_dim}"
            )
        if self.text_tokens < 1:
            raise UserError(f"text_tokens {self.text_tokens}: wanted at least 1")

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def heads(self) -> int:
        return self.num_attention_heads

    @property
    def head_dim(self) -> int:
        return self.attention_head_dim

    @property
    def patch(self) -> tuple[int, int, int]:
        return self.patch_size

    @property
    def rope_axes(self) -> tuple[int, int, int]:
        return self.rope_dim

    @property
    def theta(self) -> float:
        return self.rope_theta

    @property
    def widths(self) -> Widths:
        return Widths(self.in_channels, self.text_dim)

    @property
    def depths(self) -> tuple[int]:
        return (self.num_layers,)

    def with_depths(self, depths: tuple[int, ...]) -> "WanConfig":
        return replace(self, num_layers=depths[0])

    def build(self) -> "Wan":
        from mpgen.backbones.wan.model import Wan

        return Wan(self)

    @classmethod
    def from_released(cls, card: Mapping[str, Any]) -> "WanConfig":
        sizes = {f.name: f for f in fields(cls) if f.name not in OURS}
        settings = {key: value for key, value in card.items() if not key.startswith("_") and key not in IGNORED}
        channels = settings.get("in_channels", sizes["in_channels"].default)
        out_channels = settings.pop("out_channels", None) or channels
        if channels != out_channels:
            raise UserError(
                f"in_channels is {channels} and out_channels {out_channels}: these weights take the start image as "
                "channels beside the noise, as Wan's image-to-video models do; wanted text-to-video ones, or Helios'"
            )
        for key, value in settings.items():
            if key not in sizes and value != BEHAVIOUR.get(key):
                raise UserError(f"{key} is {value!r}, wanted {BEHAVIOUR.get(key)!r}: this network does nothing else")
        chosen = {key: settings[key] for key in sizes if key in settings}
        for key, value in chosen.items():
            default = sizes[key].default
            assert default is not MISSING
            kinds = {tuple: (list, tuple), float: (int, float), int: (int,)}[type(default)]
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise UserError(f"{key} is {value!r}, wanted something like {default!r}")
        if card["_class_name"] == PLAIN_CLASS:  # which has no such key, and splits a head by this rule
            side = 2 * (chosen.get("attention_head_dim", sizes["attention_head_dim"].default) // 6)
            chosen["rope_dim"] = (chosen.get("attention_head_dim", 128) - 2 * side, side, side)
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()})
