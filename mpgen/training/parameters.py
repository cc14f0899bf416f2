"""Which parameters train: shell patterns over the released names (paper §6.4: the last norm and the output layer)."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from mpgen.backbones.lora import ADAPTER
from mpgen.errors import UserError

HEAD = ("norm_out.", "proj_out.")


@dataclass(frozen=True)
class Trainable:
    """What was selected.

    Args:
        names: the parameters that train.
        count: how many numbers they hold.
        head_only: nothing before the last norm is among them, so nothing before it needs a graph.
    """

    names: tuple[str, ...]
    count: int
    head_only: bool


def select_trainable(module: nn.Module, patterns: Sequence[str]) -> Trainable:
    """Sets `requires_grad` on the parameters whose full name matches a pattern, and clears it on the others.

    Args:
        patterns: like "*", "semantic_pack.*" or "*.attn.*"; a star matches dots too.

    Raises:
        UserError: when a pattern matches nothing, or low-rank updates were added and none of them trains.
    """
    named = dict(module.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            groups = ", ".join(dict.fromkeys(f"{name.split('.')[0]}.*" for name in named))
            raise UserError(
                f"train pattern {pattern!r} matches no parameter: wanted one of *, {groups} or a part of them"
            )
    names = tuple(name for name in named if any(fnmatchcase(name, pattern) for pattern in patterns))
    if not names:
        raise UserError("train is empty: wanted at least one pattern, such as '*'; set it in the model config")
    if any(ADAPTER in name for name in named) and not any(ADAPTER in name for name in names):
        raise UserError("model.denoiser.lora adds layers of which none trains: add '*.lora_*' to model.train")
    for name, parameter in named.items():
        parameter.requires_grad_(name in set(names))
    count = sum(named[name].numel() for name in names)
    return Trainable(names, count, all(name.startswith(HEAD) for name in names))
