"""The one list of backbones, by the class that released folders name, and the licences of released weights."""

from mpgen.backbones.base import BackboneConfig
from mpgen.backbones.hunyuan.config import HunyuanConfig
from mpgen.backbones.wan.config import WanConfig

BACKBONES: tuple[type[BackboneConfig], ...] = (HunyuanConfig, WanConfig)
RELEASED = {name: config for config in BACKBONES for name in config.released_classes}
LICENCES: dict[type[BackboneConfig], str] = {
    HunyuanConfig: "HunyuanVideo's and FramePack's: the Tencent Hunyuan Community License, which excludes the European "
    "Union, the United Kingdom and South Korea",
    WanConfig: "Wan's and Helios': Apache-2.0",
}
