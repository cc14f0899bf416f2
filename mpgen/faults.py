"""What jsonargparse refuses, in one line that begins with where it was given.

Most of its messages are kept as they are. Those on unions and on classes list all that was tried, up to twenty lines:
of these the lines that tell are kept, with the nearest names that there are.
"""

import inspect
import re
import typing
from argparse import Action, ArgumentError
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from os.path import commonpath
from textwrap import shorten
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._typehints import ActionTypeHint
from jsonargparse._util import import_object

from mpgen.configs import Source
from mpgen.errors import UserError

KEY = re.compile(r'Parser key "([\w.]+)":\s*')
# What jsonargparse says of each thing that it tried, and of what it would take.
NOISE = re.compile(
    r"Does not validate|Subtypes:|Errors:|Given value type|Subclass types expect|a class path \(str\)|a dict with"
    r"|Not a valid subclass|Expected a path but .* either not|Expected a <class 'NoneType'>"
)
TYPES = {"int": "whole number", "float": "number", "bool": "truth value (true, false)", "str": "text"}
CLASS = re.compile(r"class_path[ =]'([\w.]+)'")
NO_CLASS = re.compile(r"no class '(\S+)'|Import path (\S+) does not|'([\w.]+)': No module named")
ABSTRACT = re.compile(r"but ([\w.]+) is abstract")
NO_NAME = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
UNKNOWN = re.compile(r"[Oo]ption '([\w.]+)'|arguments: --([\w.]+)")


def explain(error: Exception, parser: ArgumentParser, sources: Sequence[Source]) -> str:
    """One line on why jsonargparse, or a constructor that it called, refused what the sources give."""
    text = innermost(error)
    found = KEY.match(text)
    key = found[1] if found else ""
    reason = _in_a_line(text[found.end() :] if found else text)
    place = _place(key, reason, sources) or ("" if isinstance(error, ArgumentError) else _refused_by(reason, sources))
    return f"{place}{': ' if place else ''}{shorten(reason, 400)}{_hint(key, text, reason, parser)}"


def innermost(error: BaseException) -> str:
    """What began it all."""
    while isinstance(error.__cause__, ValueError):
        error = error.__cause__
    return str(error) or type(error).__name__


def refuse_nulls(parsed: Namespace, parser: ArgumentParser, sources: Sequence[Source]) -> None:
    """Raises UserError for a null where none is wanted; jsonargparse lets it pass."""
    given = {key for source in sources for key, value in source.values.items() if value is None}
    if not given:
        return
    for key, kind in _wanted(parsed, parser):
        if key in given and type(None) not in (kind, *typing.get_args(kind)) and kind is not Any:
            raise UserError(f"{_place(key, '', sources)}: given null: {_in_a_line(f'Expected a {kind}')}")


def list_classes(argv: Sequence[str], parser: ArgumentParser) -> str:
    """What `--KEY.help` without a class after it asks for: those to choose from, each with what it is; or empty."""
    for word, following in pairwise([*argv, ""]):
        if word.endswith(".help") and (not following or following.startswith("--")):
            key = word.removeprefix("--").removesuffix(".help")
            kind = next((kind_of(action) for action in parser._actions if action.dest == key), None)
            found = sorted({cls for base in _classes(kind) for cls in _below(base)}, key=lambda cls: cls.__name__)
            width = max((len(cls.__name__) for cls in found), default=0)
            lines = [f"  {cls.__name__:<{width}}  {(inspect.getdoc(cls) or '').partition(chr(10))[0]}" for cls in found]
            lines += [f"{word} CLASS tells what it takes; yours is named by its import path."]
            return "\n".join([f"--{key} is one of", *lines]) if found else ""
    return ""


def kind_of(action: Action) -> Any:
    """The type of an option; None if it has none."""
    return action._typehint if isinstance(action, ActionTypeHint) else None


def _in_a_line(text: str) -> str:
    """The lines of a message that tell."""
    lines = [line.strip().removeprefix("- ") for line in text.splitlines()]
    lines = [line for line in lines if line and not NOISE.match(line)]
    if any("class_path" in line or "Got value" in line for line in lines):
        lines = [line for line in lines if not line.startswith("Given value")]
    said = "\n".join(lines).replace(":\n", ": ").replace("\nGiven value: ", ". Got value: ")
    said = re.sub(r"\n(?:Expected|Not of type) an? ", " or ", said).replace("\n", "; ")
    said = re.sub(r"\b(?:fit|validate)\.", "", said)
    said = re.sub(r"Type \S.* expects a function or a callable class: |\. Got value: Namespace\(.*", "", said)
    said = re.sub(r"Expected a dot import path string: (\S+)", r"there is no class '\1'", said)
    said = re.sub(r"(?:an? )?typing\.Literal\[(.*?)\]", r"one of \1", said)
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", lambda kind: TYPES.get(kind[1], kind[1]), said)


def _place(key: str, reason: str, sources: Sequence[Source]) -> str:
    """Where the last word was given on the key, or on the one that the reason names, or on what is above it."""
    for name in [key] if key else re.findall(r"['\"]([\w.\[\]]+)['\"]", reason):
        while name:
            for source in reversed(sources):
                held = next((k for k in source.values if k == name or k.startswith(f"{name}.")), None)
                if held:
                    return f"{source.name}: {name}" if source.name else f"--{held}"
            name = name.rpartition(".")[0]
    return key


def _refused_by(reason: str, sources: Sequence[Source]) -> str:
    """The part of a config whose keys a constructor names in its complaint, best in what it says of what was given."""
    given = [(source.name, name) for source in sources for name in source.values]
    for said in (reason.partition("wanted")[0], reason):
        words = set(re.findall(r"\w+", said))
        if held := [(source, name) for source, name in given if name.split(".")[-1] in words]:
            break
    else:
        return ""
    above = commonpath([name.replace(".", "/") for _, name in held]).replace("/", ".")
    return ": ".join(filter(None, (held[-1][0], above)))


def _hint(key: str, text: str, reason: str, parser: ArgumentParser) -> str:
    """The nearest of the names that there are, or all classes."""
    unknown, absent, misnamed = UNKNOWN.search(reason), NO_CLASS.search(reason), NO_NAME.search(reason)
    abstract = ABSTRACT.search(reason)
    if unknown:
        made = (CLASS.findall(reason) or CLASS.findall(text)) if key else []
        names = inspect.signature(import_object(made[0])).parameters if made else {a.dest for a in parser._actions}
        return _nearest(unknown[1] or unknown[2], [*names], "")
    if abstract:
        return f": it lacks {', '.join(sorted(import_object(abstract[1]).__abstractmethods__))}"
    if misnamed:
        return _nearest(misnamed[2], dir(import_module(misnamed[1])), "")
    if absent:
        kind = next((kind_of(action) for action in parser._actions if action.dest == key), None)
        names = sorted({found.__name__ for base in _classes(kind) for found in _below(base)})
        name = absent[1] or absent[2] or absent[3]
        return _nearest(name.split(".")[-1], names, f"; wanted one of {', '.join(names)}" if names else "")
    return ""


def _nearest(name: str, names: Sequence[str], otherwise: str) -> str:
    near = get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else otherwise


def _classes(kind: Any) -> Iterator[type]:
    """The classes of which a config may name one where `kind` is wanted."""
    if inspect.isclass(kind) and not typing.get_args(kind) and kind.__module__ != "builtins":
        yield kind
    for part in typing.get_args(kind):
        yield from _classes(part) if not isinstance(part, list) else ()


def _below(kind: type) -> Iterator[type]:
    if not inspect.isabstract(kind) and not kind.__name__.startswith("_"):
        yield kind
    for sub in kind.__subclasses__():
        yield from _below(sub)


def _wanted(parsed: Namespace, parser: ArgumentParser) -> Iterator[tuple[str, Any]]:
    """The type of every option that has a default, those of the classes in a config too."""
    for action in parser._actions:
        if action.required or action.default is not None:
            yield action.dest, kind_of(action)
    for key, value in _nested(parsed, ""):
        made = import_object(value.class_path)
        kinds = typing.get_type_hints(made.__init__)
        for name, parameter in inspect.signature(made).parameters.items():
            if parameter.default is not None:
                yield f"{key}.init_args.{name}", kinds.get(name, Any)


def _nested(node: Any, key: str) -> Iterator[tuple[str, Namespace]]:
    """The classes that a config names, at any depth."""
    if isinstance(node, Namespace):
        if "class_path" in node:
            yield key, node
        for name, value in vars(node).items():
            yield from _nested(value, f"{key}.{name}".lstrip("."))
    if isinstance(node, list):
        for place, value in enumerate(node):
            yield from _nested(value, f"{key}[{place}]")
