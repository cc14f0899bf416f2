"""Wan (1.3B, 5B, 14B), and Helios, which is Wan with packed history: one transformer, under the released names."""

from mpgen.backbones.wan.config import WanConfig

__all__ = ["WanConfig"]
