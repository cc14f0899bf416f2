"""Weights in and out. Strict: every name that does not fit is listed, nothing is guessed; no pickled code is executed.

`sources.py` names the tensors of any source and reads them one at a time (`gguf_files.py` those of GGUF);
`released.py` makes a network of released weights, `lora.py` adds LoRA files on the way; `runs.py` reads what `mpgen
fit` and `mpgen export` wrote, `shards.py` what many ranks wrote together, `base.py` what a checkpoint names instead
of holding; `export.py` writes folders that diffusers loads. Weights without a memory leave `memory.*` at its initial
values; an original model lacks what FramePack added to it. Those are the declared gaps.
"""

from mpgen.checkpoints.base import check_base, describe_base
from mpgen.checkpoints.plain import rebuild, to_plain
from mpgen.checkpoints.released import begin_from, load_released
from mpgen.checkpoints.runs import LoadedModel, Trained, load_for_generation, model_card, open_trained, read_checkpoint
from mpgen.checkpoints.weights import load_weights, override

__all__ = [
    "LoadedModel",
    "Trained",
    "begin_from",
    "check_base",
    "describe_base",
    "load_for_generation",
    "load_released",
    "load_weights",
    "model_card",
    "open_trained",
    "override",
    "read_checkpoint",
    "rebuild",
    "to_plain",
]
