"""The names of all scores: which probe each needs, how it is computed, and how it is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

from mpgen.errors import UserError
from mpgen.evaluation import reduce
from mpgen.evaluation.reduce import Score
from mpgen.evaluation.trace import Trace


@dataclass(frozen=True)
class Dimension:
    """One score.

    Args:
        name: as in the JSON and the CSV.
        title: as in tables.
        probe: what must have looked at the video.
        score: the score of a trace.
        better: which way is good; "neither" for what only describes.
        drift_frames: the fewest frames at each end for a drift (consistency needs two); 0 for none.
        by_frame: VBench (on one GPU) weighs videos by their frames in it.
        from_start: its drift is always measured against the video's first frame, never the segment's own.
        headline: one of the paper's Δ columns, or of the proxies' table.
        curve_title: of its curve, where that shows something else than the score.
        scale: numbers are shown times this; the paper shows per cent.
    """

    name: str
    title: str
    probe: str
    score: Callable[[Trace], Score]
    better: Literal["higher", "lower", "neither"] = "higher"
    drift_frames: int = 1
    by_frame: bool = False
    from_start: bool = False
    headline: bool = True
    curve_title: str = ""
    scale: float = 100.0


def _proxy(name: str, title: str) -> Dimension:
    score = partial(reduce.average, scores=f"proxies/{name}")
    return Dimension(name, title, "proxies", score, "neither")


VBENCH = (
    Dimension("imaging", "Imaging Quality", "imaging", reduce.imaging_quality),
    Dimension("aesthetic", "Aesthetic Quality", "aesthetic", reduce.aesthetic_quality),
    Dimension(
        "dynamic",
        "Dynamic Degree",
        "dynamic",
        reduce.dynamic_degree,
        drift_frames=0,
        headline=False,
        curve_title="Motion, % of the threshold of Dynamic Degree",
    ),
    Dimension("smoothness", "Motion Smoothness", "smoothness", reduce.motion_smoothness, headline=False),
    Dimension(
        "background",
        "Background Consistency",
        "background",
        reduce.background_consistency,
        drift_frames=2,
        by_frame=True,
    ),
    Dimension("subject", "Subject Consistency", "subject", reduce.subject_consistency, drift_frames=2, by_frame=True),
)
PROXIES = (
    _proxy("luminance", "Luminance"),
    _proxy("contrast", "Contrast"),
    _proxy("saturation", "Saturation"),
    _proxy("sharpness", "Sharpness"),
    Dimension("motion", "Frame difference", "proxies", partial(reduce.average, scores="proxies/motion"), "neither", 2),
    Dimension("structure", "Structural consistency", "proxies", reduce.structural_consistency, "higher", 2),
    Dimension("colour", "Colour shift", "proxies", reduce.colour_shift, "lower", 2, from_start=True),
)
DIMENSIONS = MappingProxyType({dimension.name: dimension for dimension in (*VBENCH, *PROXIES)})


def choose(names: tuple[str, ...]) -> tuple[Dimension, ...]:
    """The dimensions named; "vbench" and "proxies" name all of theirs.

    Raises:
        UserError: a name that is none.
    """
    groups = {"vbench": VBENCH, "proxies": PROXIES}
    chosen: dict[str, Dimension] = {}
    for name in names:
        if name not in groups and name not in DIMENSIONS:
            raise UserError(f"--metrics {name!r}: wanted some of {', '.join((*groups, *DIMENSIONS))}")
        for dimension in groups.get(name) or (DIMENSIONS[name],):
            chosen[dimension.name] = dimension
    return tuple(dimension for dimension in DIMENSIONS.values() if dimension.name in chosen)
