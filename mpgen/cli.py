"""The `mpgen` command: a table of subcommands, each imported only when it is called, so that help comes at once."""

import errno
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from typing import TypeVar

from mpgen import __version__
from mpgen.errors import UserError
from mpgen.options import choose


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Args:
        module: where it lives.
        function: what to call; its signature is the command line, unless the module has its own parser.
        help: one line.
        own_parser: the function reads `sys.argv` itself.
        flags: options that call another function, by its import path, in this one's place.
        expand: the import path of a function of the words, which puts others in the place of some.
    """

    module: str
    function: str
    help: str
    own_parser: bool = False
    flags: Mapping[str, str] = field(default_factory=dict)
    expand: str = ""

    def run(self, name: str, argv: list[str]) -> None:
        """Calls it with the words after `name`."""
        for flag, other in self.flags.items():
            alone = any(word == flag and value != "false" for word, value in pairwise([*argv, ""]))
            if alone or f"{flag}=true" in argv:
                module, _, function = other.rpartition(".")
                getattr(import_module(module), function)()
                return
        function = getattr(import_module(self.module), self.function)
        if self.own_parser:
            function()
            return
        from mpgen.parser import run_function

        if self.expand:
            module, _, other = self.expand.rpartition(".")
            argv = getattr(import_module(module), other)(argv)
        run_function(function, argv, f"mpgen {name}")


@dataclass(frozen=True)
class Group:
    """Subcommands under one word, as in `mpgen arena serve`.

    Args:
        help: one line.
        verbs: by name, in the order of use.
        examples: lines to copy.
    """

    help: str
    verbs: dict[str, Command]
    examples: tuple[str, ...] = ()

    def run(self, name: str, argv: list[str]) -> None:
        """Calls the verb named first."""
        if not argv or argv[0] in ("-h", "--help"):
            print("\n".join(self._usage(name)))
            return
        _pick(self.verbs, argv[0], f"mpgen {name}").run(f"{name} {argv[0]}", argv[1:])

    def _usage(self, name: str) -> list[str]:
        lines = [f"usage: mpgen {name} VERB [OPTIONS]", "", self.help, "", "verbs, in the order of use:"]
        lines += _listed(self.verbs)
        if self.examples:
            lines += ["", "for example:", *(f"  {example}" for example in self.examples)]
        return [*lines, "", f"mpgen {name} VERB --help tells more."]


Named = TypeVar("Named", bound=Command | Group)

COMMANDS: dict[str, Command | Group] = {
    "fit": Command(
        "mpgen.training.cli",
        "main",
        "train from a config, or go on where a run stopped",
        own_parser=True,
        flags={"--print_summary": "mpgen.planner.command.print_summary"},
    ),
    "validate": Command("mpgen.training.cli", "main", "loss and sample videos of a checkpoint", own_parser=True),
    "plan": Command("mpgen.planner.command", "main", "memory, traffic and days of a run", own_parser=True),
    "generate": Command(
        "mpgen.generation.command",
        "generate",
        "make a video from a checkpoint",
        expand="mpgen.generation.like.expand",
    ),
    "studio": Command("mpgen.studio.command", "studio", "make videos in a browser and watch them grow"),
    "evaluate": Command("mpgen.evaluation.command", "evaluate", "score videos: the paper's metrics, drift, proxies"),
    "lab": Command("mpgen.lab.command", "lab", "ways to remember and to force, on one base and one budget"),
    "compare": Command("mpgen.comparison.command", "compare", "two runs: configs, curves and scores side by side"),
    "export": Command("mpgen.checkpoints.command", "export", "write a model as files that diffusers loads"),
    "data": Group(
        "from a published table of videos to a cache that `mpgen fit` trains on",
        {
            "index": Command(
                "mpgen.data.curate.commands.index", "index", "list clips of MiraData, Sekai, a folder or a world"
            ),
            "score": Command(
                "mpgen.data.curate.commands.score", "score", "decode each clip once: cuts, motion, black, freezes"
            ),
            "filter": Command(
                "mpgen.data.curate.commands.filter", "filter", "choose the spans to train on; no decoding"
            ),
            "cache": Command("mpgen.data.commands.cache", "cache", "encode them, on one machine or many"),
            "check": Command("mpgen.data.commands.check", "check", "verify a cache and say what is wrong"),
            "remove": Command("mpgen.data.commands.remove", "remove", "free the disk of a cache"),
            "plan": Command("mpgen.data.commands.plan", "plan", "show the curriculum: steps, hours, sections"),
        },
        examples=(
            "mpgen data index --source mira_v0 --csv miradata_v0.csv --root miradata --output DATA",
            "mpgen data score DATA",
            "mpgen data filter DATA",
            "mpgen data cache DATA --encoders hunyuan --weights weights/HunyuanVideo",
            "mpgen data check DATA",
            "mpgen data plan DATA --world_size 32 --batch_size 1",
        ),
    ),
    "world": Command("mpgen.world.command", "world", "render the built-in world and look at it"),
    "arena": Group(
        "compare videos by eye in a browser, blind, and rank the methods",
        {
            "serve": Command("mpgen.arena.command", "serve", "show pairs to raters and keep their votes"),
            "report": Command("mpgen.arena.command", "report", "ratings, intervals and agreement"),
        },
    ),
}


# Threads that wait for each other turn so often before they sleep. GNU OpenMP's own default is far more: beside another
# busy process an update on two cores then takes ten to thirty times as long. On an idle machine nothing is lost.
SPIN_COUNT = "5000"


# What a file system refuses, whatever the program does: a full disk, a path below a file, a name too long ...
REFUSED = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler sends: what Ctrl-C leaves whole is left whole, and no process stays behind."""


def main() -> None:
    """Runs the subcommand named first; a user's mistake is one line and exit status 2."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return
    if argv[0] == "--version":
        print(f"mpgen {__version__}")
        return
    if "" not in sys.path and not sys.flags.safe_path:
        sys.path.append("")  # the working folder, for classes of your own; last, so that it hides nothing
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        _pick(COMMANDS, argv[0], "mpgen").run(argv[0], argv[1:])
    except UserError as error:
        sys.exit(_complain(error))
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        sys.exit(_complain(UserError(f"{error.filename or 'cannot write'}: {error.strerror}")))
    except Terminated:
        print("mpgen: terminated", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        print("mpgen: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> None:
    raise Terminated


def _pick(table: Mapping[str, Named], name: str, prefix: str) -> Named:
    return choose(table, name, f"{name!r} is not a command of `{prefix}`")


def _listed(table: Mapping[str, Command | Group]) -> list[str]:
    return [f"  {name:<10} {command.help}" for name, command in table.items()]


def _complain(error: UserError) -> int:
    print(f"mpgen: error: {error}", file=sys.stderr)
    return error.status


def _usage() -> str:
    lines = [
        "usage: mpgen COMMAND [OPTIONS]",
        "",
        "Minute-long video from one image and a prompt (Pack and Force Your Memory, arXiv 2510.01784).",
        "",
        "commands:",
        *_listed(COMMANDS),
        "",
        "mpgen COMMAND --help tells more. Begin with: mpgen fit --config configs/quickstart.yaml",
    ]
    return "\n".join(lines)
