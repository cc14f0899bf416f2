"""The one list of backbones, by the class that released folders name."""

from mpgen.backbones.base import BackboneConfig
from mpgen.backbones.hunyuan.config import HunyuanConfig
from mpgen.backbones.wan.config import WanConfig

BACKBONES: tuple[type[BackboneConfig], ...] = (HunyuanConfig, WanConfig)
RELEASED = {name: config for config in BACKBONES for name in config.released_classes}
