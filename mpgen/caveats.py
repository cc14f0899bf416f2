"""What makes a run's results mean less than they seem to: said so that it cannot be overlooked, and recorded."""

import sys
from collections.abc import Iterable
from textwrap import wrap

WIDTH = 100


def say(caveats: Iterable[str]) -> None:
    """Each in a frame, on stderr."""
    for caveat in caveats:
        lines = [f"! {line}" for line in wrap(f"WARNING: {caveat}", WIDTH - 2)]
        print("\n".join(["!" * WIDTH, *lines, "!" * WIDTH]), file=sys.stderr, flush=True)
