"""The config files named on a command line, read before anything else does: what is no YAML with keys is one line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from mpgen.errors import UserError

Tree = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """What one config file gives, or the command line.

    Args:
        name: the file; empty for the command line.
        values: by full key, such as `model.clip_norm`; those above are there too.
    """

    name: str
    values: dict[str, Any]


def read_sources(argv: Sequence[str]) -> list[Source]:
    """The config files in order, then the options.

    Raises:
        UserError: a file cannot be read.
    """
    files, typed = [], {}
    for word, following in pairwise([*argv, ""]):
        name, equals, text = word.partition("=")
        if name in ("-c", "--config"):
            if not (text or following):
                raise UserError(f"{name}: wanted a file after it")
            files.append(Path(text if equals else following))
        elif name.startswith("--"):
            typed[name[2:]] = text if equals else following
    return [*(Source(str(path), dict(flatten(read_config(path)))) for path in files), Source("", typed)]


def flatten(tree: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """All keys with what they hold, the full key of each joined by dots."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            key = f"{above}.{name}" if above else str(name)
            yield key, value
            yield from flatten(value, key)
    if isinstance(tree, list):
        for place, value in enumerate(tree):
            yield f"{above}[{place}]", value
            yield from flatten(value, f"{above}[{place}]")


def read_config(path: Path) -> Tree:
    """The keys of a YAML file.

    Raises:
        UserError: there is no such file, or it holds something else, or itself.
    """
    if not path.exists():
        raise UserError(missing_file(path, "a YAML file (--config)"))
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no keys: wanted lines such as `seed: 0`")
    return tree


def parse_yaml(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        ValueError: in one line, where it is no YAML, or an anchor that holds itself.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _refuse_cycles(root, frozenset(), set())
        return get_loader("yaml")(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error


def missing_file(path: Path, wanted: str) -> str:
    """A line on a file that is not there: which, and the nearest name in its folder."""
    names = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    return f"{path} does not exist: " + (f"did you mean {path.parent / near[0]}?" if near else f"wanted {wanted}")


def _refuse_cycles(node: yaml.Node, above: frozenset[int], done: set[int]) -> None:
    if id(node) in above:
        raise ValueError(f"line {node.start_mark.line + 1}: an anchor that holds itself")
    if isinstance(node, yaml.CollectionNode) and id(node) not in done:
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                _refuse_cycles(part, above | {id(node)}, done)
    done.add(id(node))
