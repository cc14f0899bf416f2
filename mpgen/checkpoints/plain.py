"""Config objects as plain types and back, so that a checkpoint says what it holds without pickled classes."""

import dataclasses
import json
from typing import Any

from jsonargparse import ArgumentParser


def to_plain(value: Any) -> Any:
    """A config object as plain types: a dataclass becomes its class and its fields, as in YAML."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class_path": class_path(type(value)), "init_args": fields}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


def rebuild(kind: type, plain: dict[str, Any]) -> Any:
    """The inverse of `to_plain`: jsonargparse checks every value and that every class is of the wanted kind.

    Raises:
        ArgumentError: when they are not.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    return parser.instantiate(parser.parse_object({"it": plain})).it


def class_path(kind: type) -> str:
    """Where a class is imported from, as in YAML."""
    return f"{kind.__module__}.{kind.__qualname__}"


def one_line(error: Exception) -> str:
    """What an error of another library said, quoted and short."""
    said = " ".join(str(error).split())
    return json.dumps(said[:200] if said else type(error).__name__)
