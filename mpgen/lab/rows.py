"""A row: a short YAML over the shared configs, trained in two stages; rows that begin alike share the first."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mpgen.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
ABLATION = CONFIGS / "ablation"
SHARED = (CONFIGS / "quickstart.yaml", ABLATION / "shared.yaml")
SECOND = ABLATION / "stage2.yaml"
NOT_ROWS = ("shared", "stage2")
PAPERS = ("f1_ct", "memorypack", "all")  # the rows that the others are compared with

# What counts in the second stage only, where several sections in a row are trained: the forcing, and what learns there.
LATER = (("model", "forcing"), ("model", "train"), ("model", "denoiser", "lora"), ("model", "optimizer"))


@dataclass(frozen=True)
class Row:
    """One way to remember and to force.

    Args:
        name: of its file.
        path: the file.
        config: what it says.
    """

    name: str
    path: Path
    config: dict[str, Any]

    @property
    def first_stage(self) -> dict[str, Any] | None:
        """What counts in the first stage; None for a row with a curriculum of its own, which has one stage."""
        if "curriculum" in self.config.get("data", {}):
            return None
        config = copy.deepcopy(self.config)
        for *parents, last in LATER:
            inner = config
            for parent in parents:
                inner = inner.get(parent, {})
            inner.pop(last, None)
        return config

    @property
    def begins_as(self) -> str:
        """A name that rows with the same first stage share."""
        return hashlib.sha256(json.dumps(self.first_stage, sort_keys=True).encode()).hexdigest()[:8]


def all_rows() -> dict[str, Path]:
    """The rows that come with mpgen, the paper's first."""
    names = sorted(path.stem for path in ABLATION.glob("*.yaml") if path.stem not in NOT_ROWS)
    return {name: ABLATION / f"{name}.yaml" for name in (*PAPERS, *(name for name in names if name not in PAPERS))}


def read_row(row: str) -> Row:
    """A row by its name or by the path of its file.

    Raises:
        UserError: there is none, or it is no config.
    """
    known = all_rows()
    path = known.get(row, Path(row))
    if not path.is_file():
        raise UserError(f"row {row}: wanted a YAML file, or one of {', '.join(known)}")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise UserError(f"{path}: wanted a config such as `model: {{forcing: ...}}`")
    return Row(path.stem, path, config)


def merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Configs laid over each other, later ones on top."""

    def over(below: Any, above: Any) -> Any:
        if not isinstance(below, dict) or not isinstance(above, dict) or "class_path" in above:
            return above
        return below | {key: over(below.get(key), value) for key, value in above.items()}

    whole: dict[str, Any] = {}
    for path in paths:
        whole = over(whole, yaml.safe_load(path.read_text(encoding="utf-8")))
    return whole
