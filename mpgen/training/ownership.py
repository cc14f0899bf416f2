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
    kept = {key: (old.get(key), new.get(key)) for key in IDENTITY if key in old}
    return [
        f"model.{key}: {left} -> {right}"
        for name, (a, b) in kept.items()
        for key, left, right in _differences(name, a, b)
    ]


def _differences(key: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping) and before.get("class_path") == now.get("class_path"):
        for name in dict.fromkeys((*before, *now)):
            yield from _differences(f"{key}.{name}", before.get(name), now.get(name))
    elif before != now:
        yield key, _short(before), _short(now)


def _short(value: Any) -> Any:
    return value["class_path"].rpartition(".")[2] if isinstance(value, Mapping) and "class_path" in value else value
