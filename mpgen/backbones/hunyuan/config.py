"""Sizes of HunyuanVideo with FramePack's additions, under the names of the released `config.json`."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from mpgen.backbones.base import BackboneConfig, check_counts
from mpgen.conditioning import Widths
from mpgen.errors import UserError

if TYPE_CHECKING:
    from mpgen.backbones.hunyuan.model import Hunyuan

FRAMEPACK_CLASS = "HunyuanVideoFramepackTransformer3DModel"  # diffusers' name
PLAIN_CLASS = "HunyuanVideoTransformer3DModel"
CLASSES = (FRAMEPACK_CLASS, "HunyuanVideoTransformer3DModelPacked", PLAIN_CLASS)
REFINER_RATIO = 4.0  # diffusers' text refiner has this ratio whatever `mlp_ratio` says
# Keys of `config.json` that are no sizes, and what the network does.
BEHAVIOUR: dict[str, tuple[Any, ...]] = {
    "qk_norm": ("rms_norm",),
    "guidance_embeds": (True,),
    "image_condition_type": (None,),
    "has_image_proj": (True,),
    "has_clean_x_embedder": (True,),
}
FRAMEPACK_ONLY = ("has_image_proj", "has_clean_x_embedder", "image_proj_dim")


@dataclass(frozen=True)
class HunyuanConfig(BackboneConfig):
    """Sizes of the transformer; the fields and defaults are those of the released FramePack `config.json` (13B).

    Args:
        in_channels: latent channels.
        num_attention_heads: heads; the width of the model is heads times `attention_head_dim`.
        attention_head_dim: width of a head; the sum of `rope_axes_dim`.
        num_layers: double-stream blocks.
        num_single_layers: single-stream blocks.
        num_refiner_layers: blocks of the text token refiner.
        mlp_ratio: hidden width of the feed-forward layers, in widths of the model.
        patch_size: rows and columns of latents in a token.
        patch_size_t: latent frames in a token.
        text_embed_dim: width of the text tokens.
        pooled_projection_dim: width of the vector for the whole text.
        image_proj_dim: width of the image tokens.
        rope_theta: base of the rotary frequencies.
        rope_axes_dim: channels of a head that turn with time, row and column; each even.
        refiner_mlp_ratio: the same as `mlp_ratio` for the text token refiner; equal to it if None. In released weights
            4, whatever `mlp_ratio` is.
    """

    released_classes = CLASSES
    released_guidance_scale = 10.0
    distilled_guidance = True
    released_fps = 30.0

    in_channels: int = 16
    num_attention_heads: int = 24
    attention_head_dim: int = 128
    num_layers: int = 20
    num_single_layers: int = 40
    num_refiner_layers: int = 2
    mlp_ratio: float = 4.0
    patch_size: int = 2
    patch_size_t: int = 1
    text_embed_dim: int = 4096
    pooled_projection_dim: int = 768
    image_proj_dim: int = 1152
    rope_theta: float = 256.0
    rope_axes_dim: tuple[int, int, int] = (16, 56, 56)
    refiner_mlp_ratio: float | None = None

    def __post_init__(self):
        check_counts(
            self,
            {
                "num_layers": 0,
                "num_single_layers": 0,
                "num_refiner_layers": 0,
                "num_attention_heads": 1,
                "patch_size": 1,
            },
        )
        if self.patch_size_t != 1:
            raise UserError(f"patch_size_t {self.patch_size_t}: wanted 1, every latent frame has its own index")
        if sum(self.rope_axes_dim) != self.attention_head_dim or any(d % 2 for d in self.rope_axes_dim):
            raise UserError(
                f"rope_axes_dim {self.rope_axes_dim}: wanted three even numbers that add up to "
                f"attention_head_dim {self.attention_head_dim}"
            )

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
        return self.patch_size_t, self.patch_size, self.patch_size

    @property
    def rope_axes(self) -> tuple[int, int, int]:
        return self.rope_axes_dim

    @property
    def theta(self) -> float:
        return self.rope_theta

    @property
    def widths(self) -> Widths:
        return Widths(self.in_channels, self.text_embed_dim, self.pooled_projection_dim, self.image_proj_dim)

    @property
    def depths(self) -> tuple[int, int]:
        return self.num_layers, self.num_single_layers

    @property
    def refiner_ratio(self) -> float:
        return self.mlp_ratio if self.refiner_mlp_ratio is None else self.refiner_mlp_ratio

    def with_depths(self, depths: tuple[int, ...]) -> "HunyuanConfig":
        double, single = depths
        return replace(self, num_layers=double, num_single_layers=single)

    def build(self) -> "Hunyuan":
        from mpgen.backbones.hunyuan.model import Hunyuan

        return Hunyuan(self)

    @classmethod
    def from_released(cls, card: Mapping[str, Any]) -> "HunyuanConfig":
        sizes = {f.name: f for f in fields(cls) if f.name != "refiner_mlp_ratio"}
        settings = {key: value for key, value in card.items() if not key.startswith("_")}
        is_plain = card["_class_name"] == PLAIN_CLASS
        for key, value in settings.items():
            if key in sizes or (is_plain and key in FRAMEPACK_ONLY):
                continue
            channels = (settings.get("in_channels", 16), None)
            allowed = channels if key == "out_channels" else BEHAVIOUR.get(key, (None, False))
            if value not in allowed:
                raise UserError(f"{key} is {value!r}, wanted {allowed[0]!r}: this network does nothing else")
        for key in () if is_plain else ("has_image_proj", "has_clean_x_embedder"):
            if not settings.get(key, False):  # diffusers' defaults are false, with which its own class cannot run
                raise UserError(f"{key} is not true: wanted weights of FramePack")
        chosen = {key: settings[key] for key in sizes if key in settings}
        for key, value in chosen.items():
            default = sizes[key].default
            assert default is not MISSING
            kinds = {tuple: (list, tuple), float: (int, float), int: (int,)}[type(default)]
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise UserError(f"{key} is {value!r}, wanted something like {default!r}")
        if "rope_axes_dim" in chosen:
            chosen["rope_axes_dim"] = tuple(chosen["rope_axes_dim"])
        return cls(**chosen, refiner_mlp_ratio=REFINER_RATIO)
