"""A run's folder has one owner at a time, and keeps saying what it was trained with."""

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mpgen.atomic import sweep
from mpgen.errors import UserError

LOCK = ".owner"
# What a run is: changed on the way, its config would say what was not done. Optimizer and schedule may change, see
# `mpgen.training.resuming`; data is checked by its plan, sizes by the weights.
IDENTITY = (
    "forcing",
    "target",
    "sigma",
    "memory_sections",
    "guidance_scale",
    "negative_prompt",
    "negative_memory",
    "seed",
    "init_from",
)
# Keys of which a change is said elsewhere, or changes nothing that is trained.
SAID_ELSEWHERE = {
    "model": (*IDENTITY, "optimizer", "lr_scheduler", "denoiser", "train"),
    "data": ("manifest", "cache", "seed", "curriculum", "num_workers", "shared_disk"),
    "trainer": ("default_root_dir", "logger", "plugins", "max_epochs", "max_steps", "max_time", "log_every_n_steps",
                "enable_progress_bar", "devices", "num_nodes", "accelerator"),
}  # fmt: skip


@contextmanager
def owned(run: Path) -> Iterator[None]:
    """The folder is this process's inside; if the process ends, however it ends, it is free again.

    Raises:
        UserError: another process has it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise UserError(
                f"{run} is in use by {owner}: wait until that run ends, or give another folder (--run)"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        sweep(run)
        yield


def changed_identity(before: str, now: str) -> list[str]:
    """What of a run differs between two of its resolved configs (YAML): lines `key: before -> now`."""
    old, new = (yaml.safe_load(text).get("model", {}) for text in (before, now))
    return _lines("model", {key: old[key] for key in IDENTITY if key in old}, new)


def changed_settings(before: str, now: str) -> list[str]:
    """What else differs and counts from now on, such as precision, batch size or the decay of an average.

    Optimizer and schedule are left to `mpgen.training.resuming`, paths and logging to nobody.
    """
    old, new = (yaml.safe_load(text) for text in (before, now))
    lines = []
    for part, left_out in SAID_ELSEWHERE.items():
        kept = {key: value for key, value in old.get(part, {}).items() if key not in left_out}
        lines += _lines(part, kept, new.get(part, {}))
    return lines


def _lines(part: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    pairs = [_differences(key, value, new[key]) for key, value in old.items() if key in new]
    return [f"{part}.{key}: {left} -> {right}" for found in pairs for key, left, right in found]


def _differences(key: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    before, now = _by_class(before), _by_class(now)
    if isinstance(before, Mapping) and isinstance(now, Mapping) and before.get("class_path") == now.get("class_path"):
        for name in dict.fromkeys((*before, *now)):
            yield from _differences(f"{key}.{name}", before.get(name), now.get(name))
    elif before != now:
        yield key, _short(before), _short(now)


def _by_class(value: Any) -> Any:
    """A list of objects by their classes, so that each is compared with its own kind."""
    if not isinstance(value, list) or not all(isinstance(each, Mapping) and "class_path" in each for each in value):
        return value
    return {_short(each): each for each in value}


def _short(value: Any) -> Any:
    return value["class_path"].rpartition(".")[2] if isinstance(value, Mapping) and "class_path" in value else value
