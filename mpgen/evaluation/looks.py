"""Which probes can look at the videos: those that need no weights, and those whose weights are there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from mpgen.errors import UserError
from mpgen.evaluation import weights as weight_files
from mpgen.evaluation.dimensions import Dimension
from mpgen.evaluation.frames import Probe
from mpgen.evaluation.precision import Precision
from mpgen.evaluation.probes import PROBES, SquareView
from mpgen.evaluation.results import VideoResult
from mpgen.evaluation.runner import WEIGHT_FREE, Look

RANDOM = "random"
Weights = Path | Literal["random"] | None
_SEED = 0


@dataclass(frozen=True)
class Looks:
    """What can be done.

    Args:
        looks: the probes.
        absent: dimensions that were asked for and cannot be had, and why.
        weights: what each network's weights are.
    """

    looks: tuple[Look, ...]
    absent: dict[str, str]
    weights: dict[str, str]


def find_looks(dimensions: Sequence[Dimension], weights: Weights, precision: Precision) -> Looks:
    """The probes of these dimensions, and always the strip of pictures.

    Raises:
        UserError: the folder of weights does not exist.
    """
    if weights not in (None, RANDOM) and not Path(weights).is_dir():
        raise UserError(f"--weights {weights} is no folder: wanted the one with the files of --list_weights")
    wanted = {dimension.probe for dimension in dimensions}
    looks = [look for look in WEIGHT_FREE if look.probe in wanted or look.probe == "strip"]
    absent, known = {}, {}
    for dimension in dimensions:
        if dimension.probe not in PROBES:
            continue
        try:
            files = _find_files(dimension.probe, weights)
        except UserError as error:
            absent[dimension.name] = str(error)
            continue
        shas = {name: RANDOM if file is None else file.sha256 for name, file in files.items()}
        known |= {name: _describe(name, sha) for name, sha in shas.items()}
        identity = f"version {PROBES[dimension.probe].version} {precision} {sorted(shas.items())}"
        paths = {name: None if file is None else file.path for name, file in files.items()}
        looks.append(Look(dimension.probe, identity, partial(make_probe, dimension.probe, paths, precision)))
    return Looks(tuple(looks), absent, known)


def make_probe(
    name: str, paths: dict[str, Path | None], precision: Precision, device: torch.device, view: SquareView
) -> Probe:
    """The probe with its weights, or with random ones where there is no path."""
    return PROBES[name].build(paths, precision, _SEED, view).to(device)


def unscored(dimensions: Sequence[Dimension], results: Sequence[VideoResult]) -> dict[str, str]:
    """Dimensions that no video has a score of, and the reason that most of them give."""
    reasons = {}
    for dimension in dimensions:
        if not any(dimension.name in result.scores for result in results):
            given = Counter(result.failed.get(dimension.probe, "no video is long enough") for result in results)
            reasons[dimension.name] = given.most_common(1)[0][0]
    return reasons


def list_weights_text(weights: Weights) -> str:
    return weight_files.listing(None if weights in (None, RANDOM) else Path(weights))


def _find_files(probe: str, weights: Weights) -> dict[str, weight_files.Found | None]:
    """A file for each network of a probe; None for random weights.

    Raises:
        UserError: one is missing, or not the published one.
    """
    specs = [spec for spec in weight_files.SPECS.values() if probe in spec.scores]
    if weights is None:
        names = ", ".join(spec.files[0].name for spec in specs)
        raise UserError(f"no weights: wanted {names} (--weights DIR; mpgen evaluate --list_weights true)")
    if weights == RANDOM:
        return {spec.name: None for spec in specs}
    found = {spec.name: weight_files.find(Path(weights), spec) for spec in specs}
    missing = [weight_files.SPECS[name].files[0].name for name, file in found.items() if file is None]
    if missing:
        raise UserError(f"no weights: {', '.join(missing)} not in {weights} (mpgen evaluate --list_weights true)")
    return found


def _describe(name: str, sha256: str) -> str:
    if sha256 == RANDOM:
        return "random: these scores mean nothing"
    only = "; research only" if weight_files.SPECS[name].research_only else ""
    return f"sha256 {sha256}{only}"
