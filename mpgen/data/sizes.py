"""What `mpgen data filter` was told of the videos' sizes, for the commands after it: DATA/sizes.yaml."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from mpgen.atomic import write_text
from mpgen.errors import UserError

NAME = "sizes.yaml"
KEYS = ("height_px", "width_px", "section_latent_frames")
HEAD = "# What `mpgen data filter` was told; `mpgen data cache` takes it where its own options say nothing.\n"


def keep_sizes(data: Path, sizes: Mapping[str, int]) -> None:
    """Writes what was given; nothing given leaves no file."""
    if sizes:
        write_text(data / NAME, HEAD + yaml.safe_dump(dict(sizes), sort_keys=False))
    else:
        (data / NAME).unlink(missing_ok=True)


def read_sizes(data: Path) -> dict[str, int]:
    """What was given; empty if nothing was.

    Raises:
        UserError: somebody has written something else there.
    """
    try:
        text = (data / NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        sizes = yaml.safe_load(text)
    except yaml.YAMLError:
        sizes = None
    if not isinstance(sizes, dict) or not all(k in KEYS and type(v) is int and v > 0 for k, v in sizes.items()):
        raise UserError(f"{data / NAME}: wanted whole numbers for {', '.join(KEYS)}, as mpgen data filter writes them")
    return sizes
