"""Errors of a command line or a config for people: what was given and where, and the nearest or possible choices."""

import inspect
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, get_loader
from yaml import MarkedYAMLError, YAMLError

from mpgen.errors import UserError
from mpgen.faults import (
    CommandLineText,
    Fault,
    Schema,
    find_fault,
    holds,
    innermost,
    is_null,
    parameters_of,
    positionals_of,
)


@dataclass(frozen=True)
class Source:
    """What one config file or the command line gives.

    Args:
        name: the file; empty for the command line.
        tree: its keys, nested.
    """

    name: str
    tree: dict[str, Any]


class _KeepsLines(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help in which an example is a line to copy, as in the docstring."""


def run_function(function: Callable[..., None], argv: Sequence[str], prog: str) -> None:
    """Calls `function` with the options in `argv`, as its signature names them.

    Parameters that are positional-only in Python (before `/`) are so on the command line; all others are options.

    Raises:
        UserError: when they do not fit; two lines at most.
    """
    parameters, positionals = parameters_of(function), positionals_of(function)
    parser = ArgumentParser(
        prog=prog,
        exit_on_error=False,
        allow_abbrev=False,
        description=_description(function),
        formatter_class=_KeepsLines,
    )
    parser.add_argument("-c", "--config", action="config", help="a YAML file with these options")
    options = set(parameters).difference(positionals)
    if positionals:
        parser.add_function_arguments(function, as_group=False, as_positional=True, skip=options)
    parser.add_function_arguments(function, as_group=False, as_positional=False, skip=set(positionals))
    schema = Schema({}, parameters, {}, positionals)
    try:
        given = parser.instantiate(parser.parse_args(list(argv)))
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(explain(error, argv, schema)) from error
    refuse_nulls(argv, schema)
    function(*(given[name] for name in positionals), **{name: given[name] for name in parameters if name in options})


def explain(error: Exception, argv: Sequence[str], schema: Schema) -> str:
    """At most two lines on why jsonargparse, or a constructor that it called, refused `argv`."""
    try:
        sources = list(_sources(argv, schema.positionals))
    except UserError as unreadable:
        return str(unreadable)
    fault = find_fault(schema, _laid_together(sources))
    return innermost(error) if fault is None else _render(fault, sources, schema.positionals)


def refuse_nulls(argv: Sequence[str], schema: Schema) -> None:
    """Raises UserError for a null where none is wanted; jsonargparse lets it pass."""
    sources = list(_sources(argv, schema.positionals))
    if "None" not in repr(sources):  # the walk costs a moment, and a config seldom has nulls
        return
    merged = _laid_together(sources)
    fault = find_fault(schema, merged)
    if fault is not None and is_null(merged, fault.key):
        raise UserError(_render(fault, sources, schema.positionals))


def _laid_together(sources: Sequence[Source]) -> dict[str, Any]:
    return reduce(_merge, (source.tree for source in sources), {})


def missing_file(path: Path, wanted: str) -> str:
    """Two lines on a file that is not there: which, and the nearest name in its folder."""
    folder = path.parent
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    hint = f"did you mean {folder / near[0]}?" if near else f"wanted {wanted}"
    return f"{path} does not exist\n{hint}"


def _sources(argv: Sequence[str], positionals: Sequence[str]) -> Iterator[Source]:
    """The config files in order, then the options, which jsonargparse lays over them."""
    typed: dict[str, Any] = {}
    words, unnamed = iter(argv), iter(positionals)
    for word in words:
        if not word.startswith("-"):
            typed |= {name: CommandLineText(word) for name in islice(unnamed, 1)}
            continue
        name, equals, text = word.lstrip("-").partition("=")
        if not equals:
            try:
                text = next(words)
            except StopIteration:
                raise UserError(f"{word}: wanted a value after it") from None
        if name in ("c", "config"):
            yield Source(text, _read(Path(text)))
        elif word.startswith("--"):
            branch: Any = CommandLineText(text)
            for part in reversed(name.split(".")):
                branch = {part: branch}
            typed = _merge(typed, branch)
    yield Source("", typed)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(missing_file(path, "a YAML file (--config)"))
    try:
        tree = get_loader("yaml")(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: not YAML: {error.problem}") from error
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {innermost(error)}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no keys: wanted lines such as `seed: 0`")
    return tree


def _merge(base: Any, over: Any) -> Any:
    """What jsonargparse makes of two configs: keys are laid over each other, lists and classes are replaced."""
    if isinstance(over, dict) and isinstance(base, str):
        base = {"class_path": str(base)}
    if not isinstance(over, dict) or not isinstance(base, dict):
        return over
    if "class_path" in over and over["class_path"] != base.get("class_path"):
        return over
    return base | {name: _merge(base.get(name), value) for name, value in over.items()}


def _render(fault: Fault, sources: Sequence[Source], positionals: Sequence[str]) -> str:
    where = next((source for source in reversed(sources) if holds(source.tree, fault.key)), None)
    files = ", ".join(source.name for source in sources if source.name)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault.key).lstrip(".")
    typed = key.upper() if key in positionals else f"--{key}"
    place = f"{where.name if where else files}: {key}" if (where.name if where else files) else typed
    link = " " if fault.said in ("is missing", "is not an option", "cannot be given") else ": "
    return f"{place}{link}{fault.said}" + (f"\n{fault.hint}" if fault.hint else "")


def _description(function: Callable[..., Any]) -> str:
    return inspect.getdoc(function).partition("\n\nArgs:")[0]
