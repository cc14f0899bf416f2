"""`mpgen data`: a table of verbs in the order of use, each imported only when it is called.

All of them work on one folder, DATA: `index.jsonl`, `scores/`, `manifest.csv`, `cache/`, and the rejects of each step.
"""

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from mpgen.errors import UserError


@dataclass(frozen=True)
class Verb:
    """A function of a module, whose signature is the command line, and one line of help."""

    module: str
    function: str
    help: str


VERBS = {
    "index": Verb("mpgen.data.commands.index", "index", "list the clips of MiraData, Sekai, a folder or a world"),
    "score": Verb("mpgen.data.commands.score", "score", "decode each clip once: cuts, motion, black, freezes"),
    "filter": Verb("mpgen.data.commands.filter", "filter", "choose the spans to train on; no decoding"),
    "cache": Verb("mpgen.data.commands.cache", "cache", "encode them, on one machine or many"),
    "plan": Verb("mpgen.data.commands.plan", "plan", "show the curriculum: steps, hours, sections"),
    "check": Verb("mpgen.data.commands.check", "check", "verify a cache and say what is wrong"),
}


def main() -> None:
    """Runs the verb named after `mpgen data`.

    Raises:
        UserError: there is no such verb, or its options do not fit.
    """
    argv = sys.argv[2:]
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return
    name = argv[0]
    if name not in VERBS:
        near = get_close_matches(name, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"wanted one of {', '.join(VERBS)}"
        raise UserError(f"data: {name!r} is not a verb: {hint}")
    from mpgen.parser import run_function  # here, so that help comes at once

    verb = VERBS[name]
    run_function(getattr(import_module(verb.module), verb.function), argv[1:], f"mpgen data {name}")


def _usage() -> str:
    lines = [
        "usage: mpgen data VERB [OPTIONS]",
        "",
        "From a published table of videos to a cache that `mpgen fit` trains on.",
        "",
        "verbs, in the order of use:",
        *(f"  {name:<10} {verb.help}" for name, verb in VERBS.items()),
        "",
        "for example:",
        "  mpgen data index --source mira_v0 --csv miradata_v0.csv --root miradata --output DATA",
        "  mpgen data score DATA",
        "  mpgen data filter DATA",
        "  mpgen data cache DATA --encoders hunyuan --weights weights/HunyuanVideo",
        "  mpgen data plan DATA --world_size 32 --batch_size 1",
        "  mpgen data check DATA",
        "",
        "mpgen data VERB --help tells more.",
    ]
    return "\n".join(lines)
