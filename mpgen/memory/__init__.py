"""MemoryPack (paper §4.1): FramePack, the short-term context, and SemanticPack, the long-term memory."""
