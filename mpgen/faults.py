"""What in a config does not fit the signatures that it configures: the deepest part, by its full key.

jsonargparse reports a refused value as a nested list of all types that it tried, often without its full key. So once it
has refused, what was given is walked here beside the signatures, asking jsonargparse about each part. Nothing here
decides what is accepted.
"""

import inspect
import types
import typing
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from operator import getitem
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, Union

from jsonargparse import ArgumentParser, get_loader
from yaml import YAMLError

Key = tuple[str | int, ...]


class CommandLineText(str):
    """A value as it was typed, whose type is not settled yet."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor or function: its type, and whether it must be given."""

    kind: Any
    required: bool


@dataclass(frozen=True)
class Schema:
    """What a command accepts.

    Args:
        groups: classes whose parameters are nested keys, like `model.clip_norm`.
        options: single options.
        links: keys that follow another one, which is the one to give.
        positionals: those of the options that are given on the command line by their place, in order.
    """

    groups: Mapping[str, type]
    options: Mapping[str, Parameter]
    links: Mapping[str, str]
    positionals: Sequence[str] = ()


@dataclass(frozen=True)
class Fault:
    """One thing that does not fit.

    Args:
        key: where.
        said: what is wrong with it.
        hint: the nearest or the possible choices, if there are any.
    """

    key: Key
    said: str
    hint: str = ""


def find_fault(schema: Schema, given: dict[str, Any]) -> Fault | None:
    """What does not fit in `given`, the nested keys of all configs and options; None if this cannot tell."""
    for name, value in given.items():
        if name in schema.groups:
            if not isinstance(value, dict):
                return Fault(
                    (name,),
                    f"{_shown(value)} does not fit",
                    f"wanted keys {_listed(parameters_of(schema.groups[name]))}",
                )
        elif name in schema.options:
            fault = _fault(schema.options[name].kind, value, (name,))
            if fault is not None:
                return fault
        else:
            return _unknown((name,), [*schema.groups, *schema.options])
    for target, source in schema.links.items():
        key = tuple(target.split("."))
        if holds(given, key):
            return Fault(key, "cannot be given", f"it follows from {source}")
    for name, kind in schema.groups.items():
        fault = _fault_in_parameters(parameters_of(kind), given.get(name, {}), (name,), _is_open(kind))
        if fault is not None:
            return fault
    return _missing(schema.options, given, ())


def is_null(tree: Any, key: Key) -> bool:
    """Whether null was given at `key`."""
    return holds(tree, key) and reduce(getitem, key, tree) is None


def holds(tree: Any, key: Key) -> bool:
    """Whether anything was given at `key`."""
    for part in key:
        inside = part in tree if isinstance(tree, dict) else isinstance(tree, list) and part in range(len(tree))
        if not inside:
            return False
        tree = tree[part]
    return True


def _fault(kind: Any, value: Any, key: Key) -> Fault | None:
    """The deepest part of `value` that jsonargparse does not accept as `kind`."""
    # jsonargparse takes null for "not given", and defaults where a dataclass's keys are wanted
    ignored = value is None and type(None) not in _members(kind) and kind is not Any
    ignored = ignored or (is_dataclass(kind) and value is not None and not isinstance(value, (dict, str)))
    reason = "" if ignored else _refusal(kind, value)
    if reason is None:
        return None
    for member in _members(kind):
        deeper = _fault_inside(member, _loaded(value), key)
        if deeper is not None:
            return deeper
    return Fault(key, reason) if reason else Fault(key, f"{_shown(value)} does not fit", f"wanted {_wanted(kind)}")


def _loaded(value: Any) -> Any:
    if not isinstance(value, CommandLineText):
        return value
    try:
        return get_loader("yaml")(str(value))
    except YAMLError:
        return str(value)


def _fault_inside(kind: Any, value: Any, key: Key) -> Fault | None:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence) and isinstance(value, list):
        faults = (_fault(arguments[0], item, (*key, place)) for place, item in enumerate(value))
        return next((fault for fault in faults if fault is not None), None)
    made = _made_by(kind)
    if made is None or not isinstance(value, (dict, str)):
        return None
    handed = len(arguments[0]) if made is not kind and isinstance(arguments[0], list) else 0
    return _fault_in_class(made, value, key, handed)


def _fault_in_class(kind: type, value: dict[str, Any] | str, key: Key, handed: int) -> Fault | None:
    """What is wrong with a class in a config: `value` is its name, its parameters, or both."""
    given = {"class_path": value} if isinstance(value, str) else value
    name = given.get("class_path")
    if name is None and inspect.isabstract(kind):
        return None
    found = kind if name is None else _find_class(str(name), kind)
    if found is None:
        package = str(name).split(".")[0]
        if "." in str(name) and find_spec(package) is None:
            return Fault(key, f"{name} is of a package that is not installed", f"wanted pip install {package}")
        names = [found.__name__ for found in _subclasses(kind)]
        if isinstance(value, str) and names == [kind.__name__]:
            return None  # a class without variants is given by its keys, not by its name
        return Fault(key, f"there is no {kind.__name__} {str(name)!r}", _hint(str(name).rsplit(".", 1)[-1], names))
    parameters = dict(list(parameters_of(found).items())[handed:])
    nested = given.get("init_args")
    if isinstance(nested, dict):
        fault = _fault_in_parameters(parameters, nested, (*key, "init_args"), _is_open(found))
    else:
        own = {k: v for k, v in given.items() if k not in ("class_path", "init_args", "dict_kwargs")}
        fault = _fault_in_parameters(parameters, own, key, _is_open(found))
    return fault


def _fault_in_parameters(
    parameters: Mapping[str, Parameter], given: Mapping[str, Any], key: Key, is_open: bool
) -> Fault | None:
    for name, value in given.items():
        known = parameters.get(str(name).removesuffix("+"))
        if known is None:
            if is_open:
                continue
            return _unknown((*key, name), parameters)
        fault = _fault(known.kind, value, (*key, name))
        if fault is not None:
            return fault
    return _missing(parameters, given, key)


def _missing(parameters: Mapping[str, Parameter], given: Mapping[str, Any], key: Key) -> Fault | None:
    absent = [name for name, parameter in parameters.items() if parameter.required and name not in given]
    if not absent:
        return None
    others = f"; also missing: {', '.join(absent[1:])}" if absent[1:] else ""
    return Fault((*key, absent[0]), "is missing", f"wanted {_wanted(parameters[absent[0]].kind)}{others}")


def _unknown(key: Key, names: Iterable[str]) -> Fault:
    return Fault(key, "is not an option", _hint(str(key[-1]), list(names)))


def _refusal(kind: Any, value: Any) -> str | None:
    """None if `value` makes a `kind`; else what the constructor said, or nothing if it did not come to that."""
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_argument("--value", type=kind)
    except ValueError:
        return None  # not a type that jsonargparse can check, so not what it complained of
    try:
        if isinstance(value, CommandLineText):
            config = parser.parse_args([f"--value={value}"])
        else:
            config = parser.parse_object({"value": value})
        parser.instantiate(config)
    except (ArgumentError, TypeError):
        return ""
    except (ValueError, OSError, RuntimeError) as error:
        return innermost(error)
    return None


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The named parameters; none of a class written in C."""
    try:
        hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except NameError:  # a library's annotation that only its type checker can resolve
        hints = {}
    found = {}
    for name, parameter in _signature(function).items():
        kind = hints.get(name, Any)
        if parameter.default is None and kind is not Any:
            kind = kind | None
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            found[name] = Parameter(kind, parameter.default is parameter.empty and not _has_defaults(kind))
    return found


def positionals_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters before `/`, in order."""
    return tuple(name for name, p in _signature(function).items() if p.kind is p.POSITIONAL_ONLY)


def _signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # written in C
        return {}


def _has_defaults(kind: Any) -> bool:
    """Whether jsonargparse makes one when nothing is given: a dataclass that needs nothing."""
    return (
        is_dataclass(kind)
        and not inspect.isabstract(kind)
        and not any(p.required for p in parameters_of(kind).values())
    )


def _is_open(function: Callable[..., Any]) -> bool:
    """Whether it takes any keyword, so that we cannot say which are wrong."""
    return any(p.kind is p.VAR_KEYWORD for p in _signature(function).values())


def _members(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _made_by(kind: Any) -> type | None:
    """The class that a config gives by name or parameters where `kind` is wanted, also as a factory of it."""
    if typing.get_origin(kind) is Callable:
        kind = _members(typing.get_args(kind)[1])[0]
    own = inspect.isclass(kind) and kind.__module__ not in ("builtins", "pathlib") and typing.get_origin(kind) is None
    return kind if own else None


def _subclasses(kind: type) -> list[type]:
    """The class and those below it that can be made, as far as they are imported."""
    below = [found for sub in kind.__subclasses__() for found in _subclasses(sub)]
    own = [] if inspect.isabstract(kind) or kind.__name__.startswith("_") else [kind]
    return list(dict.fromkeys(own + below))


def _find_class(name: str, kind: type) -> type | None:
    module, _, attribute = name.rpartition(".")
    if not module:
        return next((found for found in _subclasses(kind) if found.__name__ == name), None)
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError):  # the last two for names like "..x"
        return None
    return found if inspect.isclass(found) and issubclass(found, kind) else None


def _hint(given: str, names: Sequence[str]) -> str:
    if not names:
        return "it has none"
    near = get_close_matches(given, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"wanted one of {_listed(names)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _wanted(kind: Any) -> str:
    """A type in words."""
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "null",
    }
    if inspect.isclass(kind) and kind in words:
        return words[kind]
    members, origin, arguments = _members(kind), typing.get_origin(kind), typing.get_args(kind)
    if len(members) > 1:
        lists = [member for member in members if set(typing.get_args(member)) & set(members)]
        return " or ".join(dict.fromkeys(_wanted(member) for member in members if member not in lists))
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)}: {', '.join(map(_wanted, arguments))}"
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        return f"a list, each {_wanted(arguments[0])}"
    if origin is dict:
        return f"keys, each {_wanted(arguments[1])}"
    made = _made_by(kind)
    if made is None:
        return str(kind)
    names = [found.__name__ for found in _subclasses(made)]
    if names != [made.__name__]:
        return f"one of {_listed(names)}"
    return f"keys {_listed(parameters_of(made))}" if parameters_of(made) else made.__name__


def _shown(value: Any) -> str:
    text = repr(str(value) if isinstance(value, CommandLineText) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def innermost(error: BaseException) -> str:
    """What began it all, in one line."""
    while isinstance(error.__cause__, ValueError):
        error = error.__cause__
    return shorten(str(error) or type(error).__name__, 300)
