"""HunyuanVideo (13B in its released size) with FramePack's additions, under the released parameter names."""

from mpgen.backbones.hunyuan.config import HunyuanConfig

__all__ = ["HunyuanConfig"]
