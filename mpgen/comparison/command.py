"""`mpgen compare`: two runs side by side."""

from pathlib import Path

from mpgen.comparison.page import write_page
from mpgen.comparison.runs import read_run
from mpgen.comparison.tables import terminal
from mpgen.outputs import check_file


def compare(first: Path, second: Path, /, output: Path = Path("comparison.html")) -> None:
    """Put two runs side by side: the keys in which their configs differ, their curves, and what their videos scored.

    Scores are those of every scores.json in the runs' folders, so let `mpgen evaluate` write there.

    Example: mpgen compare runs/direct runs/student

    Args:
        first: the folder of a run of `mpgen fit`.
        second: of another.
        output: a page with the curves; one that is there is replaced.
    """
    check_file(output, "--output", ".html", overwrite=True)
    a, b = read_run(first), read_run(second)
    print(terminal(a, b))
    write_page(a, b, output)
    print(f"\n{output}")
