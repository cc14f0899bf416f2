"""The backbone: HunyuanVideo's diffusion transformer as FramePack extends it. It knows nothing of memory.

Read `model.py` first; `blocks.py`, `layers.py`, `rope.py` and `patches.py` hold its parts. Parameter names are those of
diffusers' `HunyuanVideoFramepackTransformer3DModel`.
"""
