"""MemoryPack (paper §4.1): FramePack's short-term history, and long-term memories; SemanticPack is the paper's."""

from mpgen.memory.semanticpack import SemanticPackConfig

__all__ = ["SemanticPackConfig"]
