"""From words to a call: the command line of a function, read from its signature by jsonargparse."""

import inspect
import typing
from argparse import Action, ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import pairwise

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from mpgen.configs import read_sources
from mpgen.errors import UserError
from mpgen.faults import explain, kind_of, refuse_nulls
from mpgen.options import Options, option_groups, select


class _KeepsLines(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help in which an example is a line to copy, as in the docstring."""


def run_function(function: Callable[..., None], argv: Sequence[str], prog: str) -> None:
    """Calls `function` with the options in `argv`, as its signature names them.

    Parameters that are positional-only in Python (before `/`) are so on the command line; those whose type is a class
    of `mpgen.options` are given by its fields; all others are options. An option of true or false may stand alone.

    Raises:
        UserError: when they do not fit; one line.
    """
    groups = option_groups(function)
    parser = _parser_of(function, groups, prog)
    argv = spell_flags(argv, parser)
    sources = read_sources(argv)
    try:
        parsed = parser.parse_args(argv)
        refuse_nulls(parsed, parser, sources)
        values = parser.instantiate(parsed)
        given = {*vars(parser.parse_args(argv, defaults=False))} if groups else set()
    except UserError:
        raise
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(explain(error, parser, sources)) from error
    made = {}
    for name, kinds in groups.items():
        kind = select(kinds, given)
        made[name] = kind(**{f.name: values[f.name] for f in fields(kind) if f.name in given})
    parameters = inspect.signature(function).parameters
    first = [values[name] for name, p in parameters.items() if p.kind is p.POSITIONAL_ONLY]
    named = {name: made.get(name, values.get(name)) for name in list(parameters)[len(first) :]}
    function(*first, **named)


def spell_flags(argv: Sequence[str], parser: ArgumentParser) -> list[str]:
    """`--overwrite` alone is `--overwrite=true`; a value may still follow."""
    flags = {text for action in parser._actions if _is_flag(action) for text in action.option_strings}
    positionals = any(not action.option_strings for action in parser._actions)
    spelled = []
    for word, following in pairwise([*argv, "-"]):
        is_value = following.lower() in ("true", "false") or not (following.startswith("-") or positionals)
        spelled.append(f"{word}=true" if word in flags and not is_value else word)
    return spelled


def _parser_of(
    function: Callable[..., None], groups: dict[str, tuple[type[Options], ...]], prog: str
) -> ArgumentParser:
    parser = ArgumentParser(
        prog=prog,
        exit_on_error=False,
        allow_abbrev=False,
        description=inspect.getdoc(function).partition("\n\nArgs:")[0],
        formatter_class=_KeepsLines,
    )
    parser.add_argument("-c", "--config", action="config", help="a YAML file with these options")
    parameters = inspect.signature(function).parameters
    positionals = {name for name, p in parameters.items() if p.kind is p.POSITIONAL_ONLY}
    if positionals:
        options = set(parameters) - positionals
        parser.add_function_arguments(function, as_group=False, as_positional=True, skip=options)
    parser.add_function_arguments(function, as_group=False, as_positional=False, skip={*positionals, *groups})
    seen: set[str] = set()
    for kind in (kind for kinds in groups.values() for kind in kinds):
        seen.update(parser.add_class_arguments(kind, None, skip=set(seen)))
    for action in parser._actions:
        action.required = action.required and action.dest not in seen  # which are required is known when one is chosen
    return parser


def _is_flag(action: Action) -> bool:
    kind = kind_of(action)
    return kind is bool or bool in typing.get_args(kind)
