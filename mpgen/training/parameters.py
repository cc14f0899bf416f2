"""Which parameters train: shell patterns over names (paper §6.4, stage 2: the last norm and the output layer)."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from textwrap import shorten

from mpgen.backbones.lora import ADAPTER
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError


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


def select_trainable(denoiser: Denoiser, patterns: Sequence[str]) -> Trainable:
    """Sets `requires_grad` on the parameters whose full name matches a pattern, and clears it on the others.

    Args:
        patterns: like "*", "memory.*" or "*.attn.*"; a star matches dots too.

    Raises:
        UserError: when a pattern matches nothing, or LoRA adapters were added and none of them trains.
    """
    named = dict(denoiser.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            groups = ", ".join(dict.fromkeys(f"{'.'.join(name.split('.')[:2])}.*" for name in named))
            raise UserError(
                f"train pattern {pattern!r} matches no parameter: wanted one of *, {groups} or a part of them"
            )
    names = tuple(name for name in named if any(fnmatchcase(name, pattern) for pattern in patterns))
    if not names:
        raise UserError("train is empty: wanted at least one pattern, such as '*'; set it in the model config")
    if any(ADAPTER in name for name in named) and not any(ADAPTER in name for name in names):
        raise UserError("model.denoiser.lora adds adapters of which none trains: add '*.lora_*' to model.train")
    for name, parameter in named.items():
        parameter.requires_grad_(name in set(names))
    count = sum(named[name].numel() for name in names)
    head = tuple(f"backbone.{name}" for name in denoiser.backbone.head_names)
    return Trainable(names, count, all(name.startswith(head) for name in names))


def frozen_at_random(denoiser: Denoiser, loaded: Set[str]) -> str:
    """A line on parameters that neither train nor came from a file; empty if there are none.

    Args:
        denoiser: after `select_trainable`.
        loaded: the names of what came from a file.
    """
    named = {name: p for name, p in denoiser.named_parameters() if not p.requires_grad and name not in loaded}
    if not named:
        return ""
    count, total = sum(p.numel() for p in named.values()), sum(p.numel() for p in denoiser.parameters())
    groups = ", ".join(dict.fromkeys(f"{'.'.join(name.split('.')[:2])}.*" for name in named))
    return (
        f"{count:,} of {total:,} parameters are random and stay so ({shorten(groups, 120)}): they neither train "
        "(model.train) nor come from weights (model.init_from)"
    )
