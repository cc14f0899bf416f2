"""Options of the command line as small frozen dataclasses; those that exclude each other are different classes.

A parameter of a command whose type is `A` gives the fields of `A` as options; one whose type is `A | B | C` gives the
fields of all, and the options that are required by one of them choose it. So what a class does not have cannot be given
together with it, and no command has to check that.
"""

import types
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, TypeVar, Union

from mpgen.errors import UserError

Value = TypeVar("Value")


class Options:
    """Base of frozen dataclasses whose fields are options without a prefix; each checks itself when it is made."""


def choose(table: Mapping[str, Value], name: str, what: str) -> Value:
    """The entry of a registry; `what` says where the name was given.

    Raises:
        UserError: there is none of that name; names the nearest, or all.
    """
    if name not in table:
        near = get_close_matches(name, table, n=1)
        raise UserError(f"{what}: " + (f"did you mean {near[0]!r}?" if near else f"wanted one of {', '.join(table)}"))
    return table[name]


def option_groups(function: Callable[..., Any]) -> dict[str, tuple[type[Options], ...]]:
    """The parameters that are given by the fields of a class, each with the classes to choose from."""
    groups = {}
    for name, kind in typing.get_type_hints(function).items():
        kinds = typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)
        if all(isinstance(kind, type) and issubclass(kind, Options) for kind in kinds):
            groups[name] = kinds
    return groups


def required(kind: type[Options]) -> list[str]:
    """The fields without a default."""
    return [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]


def select(kinds: Sequence[type[Options]], given: Set[str]) -> type[Options]:
    """The class whose required options are given; that without any if none are.

    Raises:
        UserError: several are, or none, or options are given that it does not have.
    """
    if len(kinds) == 1:
        return kinds[0]
    keys = {kind: required(kind) for kind in kinds}
    chosen = [kind for kind in kinds if given.intersection(keys[kind])] or [kind for kind in kinds if not keys[kind]]
    if len(chosen) != 1:
        named = " and ".join(f"--{name}" for kind in chosen for name in keys[kind] if name in given)
        wanted = ", ".join(" with ".join(f"--{name}" for name in names) for names in keys.values() if names)
        raise UserError(f"given {named or 'nothing'}: wanted one of {wanted}")
    absent = [f"--{name}" for name in keys[chosen[0]] if name not in given]
    if absent:
        raise UserError(f"--{' --'.join(given.intersection(keys[chosen[0]]))}: wanted {', '.join(absent)} with it")
    own = {f.name for f in fields(chosen[0])}
    for name in sorted({f.name for kind in kinds for f in fields(kind)} & given - own):
        partners = [f"--{keys[kind][0]}" for kind in kinds if keys[kind] and name in {f.name for f in fields(kind)}]
        with_what = f" with --{keys[chosen[0]][0]}" if keys[chosen[0]] else ""
        raise UserError(f"--{name} does not go{with_what}: wanted {' or '.join(partners)}")
    return chosen[0]
