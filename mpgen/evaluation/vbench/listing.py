"""`mpgen evaluate --list_weights`: every weight file as text, with a line that downloads it."""

from pathlib import Path

from mpgen.evaluation.vbench.metrics import VBENCH
from mpgen.evaluation.vbench.weights import Published, find


def listing(folder: Path | None = None) -> str:
    """Every file, found or not where a folder is given.

    Raises:
        UserError: the folder does not exist, or a file in it is not the published one.
    """
    users: dict[str, list[str]] = {}
    published: dict[str, Published] = {}
    for metric in VBENCH:
        for one in metric.networks:
            published[one.name] = one
            users.setdefault(one.name, []).append(metric.name)
    lines = [line for name, one in published.items() for line in _lines(one, users[name], folder)]
    where = "a folder and name it with --weights" if folder is None else folder
    return "\n".join([*lines, f"Put them into {where}, in any subfolder. Nothing is downloaded by itself."])


def _lines(one: Published, users: list[str], folder: Path | None) -> list[str]:
    first = one.files[0]
    lines = [
        first.name,
        f"  for       {', '.join(users)}",
        f"  from      {one.owner}",
        f"  size      {one.size_mb:g} MB",
        f"  sha256    {first.sha256 or 'not published'}",
        f"  licence   {one.licence}{' - RESEARCH ONLY' if one.research_only else ''}",
    ]
    if len(one.files) > 1:
        lines.append(f"  or        {', '.join(file.name for file in one.files[1:])}")
    if folder is not None:
        found = find(folder, one)
        lines.append(f"  here      {'MISSING' if found is None else found.path}")
    return [*lines, f"  download  {one.download}"]
