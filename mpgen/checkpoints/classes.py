"""Which classes a checkpoint may name: what it says is a stranger's word, and to import a module is to run it.

A config is yours, and what it names is imported. A checkpoint may come from anywhere, so only classes of mpgen, of
modules that are imported already, and of files in the working folder are taken from it; all else is refused unimported.
jsonargparse has such a list too, but for the whole process, and it cannot be taken back.
"""

import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import yaml

from mpgen.errors import UserError

DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def refuse_foreign(plain: Any, path: Path) -> None:
    """Raises UserError where plain values of the checkpoint at `path` name a class that may not be imported."""
    for name, is_class in _names(plain, False):
        top = name.partition(".")[0]
        if top == "mpgen" or _is_imported(name) or _in_working_folder(top):
            continue
        if is_class or PathFinder.find_spec(top) is not None or top in sys.builtin_module_names:
            raise UserError(
                f"{path} names {name!r}, which is not imported for it: wanted a class of mpgen, or of a file in the "
                "working folder"
            )


def _names(value: Any, is_class: bool) -> Iterator[tuple[str, bool]]:
    """All texts that are import paths by their form, those inside texts of YAML too; and whether it says so."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _names(part, key == "class_path")
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _names(part, False)
    elif isinstance(value, str) and DOTTED.fullmatch(value):
        yield value, is_class
    elif isinstance(value, str):
        inner = _as_yaml(value)
        if inner != value:
            yield from _names(inner, is_class)


def _as_yaml(text: str) -> Any:
    """What a parser may take the text for."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def _is_imported(name: str) -> bool:
    """Whether the name is there without importing anything."""
    module, _, attribute = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, attribute = module.rpartition(".")
    return bool(module) and attribute in vars(sys.modules[module])


def _in_working_folder(top: str) -> bool:
    """Whether Python finds the module right there, as a file or a folder of its own."""
    here, anywhere = PathFinder.find_spec(top, [os.getcwd()]), PathFinder.find_spec(top)
    return here is not None and anywhere is not None and _place(here) == _place(anywhere)


def _place(spec: Any) -> Path:
    return Path(spec.origin or next(iter(spec.submodule_search_locations))).resolve()
