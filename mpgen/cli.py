"""The `mpgen` command: a table of subcommands, each imported only when it is called, so that help comes at once."""

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from mpgen import __version__
from mpgen.errors import UserError


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Args:
        module: where it lives.
        function: what to call; its signature is the command line, unless the module has its own parser.
        help: one line.
        own_parser: the function reads `sys.argv` itself.
    """

    module: str
    function: str
    help: str
    own_parser: bool = False


COMMANDS = {
    "fit": Command("mpgen.training.cli", "main", "train from a config, or go on where a run stopped", own_parser=True),
    "validate": Command("mpgen.training.cli", "main", "loss and sample videos of a checkpoint", own_parser=True),
    "generate": Command("mpgen.generation.command", "generate", "make a video from a checkpoint"),
    "evaluate": Command("mpgen.evaluation.command", "evaluate", "score generated videos against the built-in world"),
    "export": Command("mpgen.checkpoints.command", "export", "write a model as files that diffusers loads"),
    "data": Command("mpgen.data.command", "main", "from a table of videos to a cache to train on", own_parser=True),
    "world": Command("mpgen.data.world.command", "world", "render the built-in world and look at it"),
}


def main() -> None:
    """Runs the subcommand named first; a user's mistake is one line and exit status 2."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return
    if argv[0] == "--version":
        print(f"mpgen {__version__}")
        return
    name = argv[0]
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"wanted one of {', '.join(COMMANDS)}"
        sys.exit(_complain(f"{name!r} is not a command: {hint}"))
    try:
        _run(COMMANDS[name], name, argv)
    except UserError as error:
        sys.exit(_complain(str(error)))
    except KeyboardInterrupt:
        print("mpgen: interrupted", file=sys.stderr)
        sys.exit(130)


def _run(command: Command, name: str, argv: list[str]) -> None:
    function = getattr(import_module(command.module), command.function)
    if command.own_parser:
        function()
        return
    from mpgen.parser import run_function

    run_function(function, argv[1:], f"mpgen {name}")


def _complain(message: str) -> int:
    print(f"mpgen: error: {message}", file=sys.stderr)
    return 2


def _usage() -> str:
    lines = [
        "usage: mpgen COMMAND [OPTIONS]",
        "",
        "Minute-long video from one image and a prompt (Pack and Force Your Memory, arXiv 2510.01784).",
        "",
        "commands:",
        *(f"  {name:<10} {command.help}" for name, command in COMMANDS.items()),
        "",
        "mpgen COMMAND --help tells more. Begin with: mpgen fit --config configs/quickstart.yaml",
    ]
    return "\n".join(lines)
