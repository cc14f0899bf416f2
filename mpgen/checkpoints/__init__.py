"""Weights in and out. Strict: every name that does not fit is listed, nothing is guessed; no pickled code is executed.

`sources.py` names the tensors of any source and reads them one at a time; `released.py` makes a network of released
weights, `lora.py` adds LoRA files on the way; `runs.py` reads what `mpgen fit` and `mpgen export` wrote, `shards.py`
what many ranks wrote together, `base.py` what a run left out; `export.py` writes folders that diffusers loads. Weights
without a memory leave `semantic_pack.*` neutral; plain HunyuanVideo has no history embeddings and no image projection.
Those are the declared gaps.
"""

from mpgen.checkpoints.base import check_base, describe_base
from mpgen.checkpoints.plain import rebuild, to_plain
from mpgen.checkpoints.released import begin_from, load_released
from mpgen.checkpoints.runs import LoadedModel, Trained, load_for_generation, model_card, open_trained, read_checkpoint
from mpgen.checkpoints.weights import lay_over, load_weights

__all__ = [
    "LoadedModel",
    "Trained",
    "begin_from",
    "check_base",
    "describe_base",
    "lay_over",
    "load_for_generation",
    "load_released",
    "load_weights",
    "model_card",
    "open_trained",
    "read_checkpoint",
    "rebuild",
    "to_plain",
]
