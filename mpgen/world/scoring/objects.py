"""Is each object where the truth has it, whole and once?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mpgen.world.scenes import SHAPES
from mpgen.world.scoring.detect import COLOURS, Detections
from mpgen.world.scoring.ideal import Ideal
from mpgen.world.truth import Truth, TruthObject

IN_SIGHT = 0.6  # an object is judged on frames where the truth shows at least so much of it
AREA_RATIO = (0.4, 2.5)  # of the true area: smaller is a splinter, larger a smear
_MIN_MOTION = 0.2  # diameters; a smaller motion cannot be told from the detector's own error


@dataclass(frozen=True)
class ObjectScores:
    """One object over some frames, where the truth shows it.

    Args:
        frames: how many frames were judged.
        found: the share of them with one blob of its colour, neither splinter nor smear nor double.
        identified: the share of them where the blob has its shape too.
        colour_right: found on most of them.
        position_error_diameters: mean distance from the true position; where not found, the frame's diagonal counts.
        area_ratio: mean of found area over true area; None if never found.
        drawn_as_one: colour right and less than a diameter off.
        moved: its error is less than half of what an object standing still would have, which in a short section can be
            less than a diameter; None if it should hardly move.
    """

    object_id: int
    colour: str
    shape: str
    frames: int
    found: float
    identified: float
    colour_right: bool
    position_error_diameters: float
    area_ratio: float | None
    drawn_as_one: bool
    moved: bool | None


def score_objects(
    truth: Truth, seen: Detections, ideal: Ideal, span: slice, context_frames: int
) -> tuple[ObjectScores, ...]:
    """Objects that the context has shown, on the frames of a section where they are in sight."""
    scores = []
    for index, obj in enumerate(truth.objects):
        given = (obj.visible[:context_frames] >= IN_SIGHT).any()
        judged = (obj.visible[span] >= IN_SIGHT) & ideal.known[span, index]
        if not given or not judged.any():
            continue
        found, error, ratio = compare(truth, obj, seen, ideal, index)
        shape_right = seen.shape[:, COLOURS.index(obj.colour)] == SHAPES.index(obj.shape)
        identified = (found & shape_right)[span][judged]
        found, error, ratio = found[span][judged], error[span][judged], ratio[span][judged]
        before = max(span.start - 1, 0)
        still = (np.hypot(obj.x[span] - obj.x[before], obj.y[span] - obj.y[before])[judged]).mean()
        still /= 2 * obj.radius_px
        scores.append(
            ObjectScores(
                object_id=obj.id,
                colour=obj.colour,
                shape=obj.shape,
                frames=len(found),
                found=float(found.mean()),
                identified=float(identified.mean()),
                colour_right=bool(found.mean() > 0.5),
                position_error_diameters=float(error.mean()),
                area_ratio=float(ratio[found].mean()) if found.any() else None,
                drawn_as_one=bool(found.mean() > 0.5 and error.mean() < 1),
                moved=bool(error.mean() < still / 2) if still > _MIN_MOTION else None,
            )
        )
    return tuple(scores)


def compare(
    truth: Truth, obj: TruthObject, seen: Detections, ideal: Ideal, index: int
) -> tuple[Bool[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """On each frame: found as one blob, position error in diameters, area over true area."""
    colour, total = COLOURS.index(obj.colour), len(seen.area)
    expected = np.maximum(ideal.area[:total, index], 1.0)
    ratio = seen.area[:, colour] / expected
    single = seen.other_area[:, colour] < AREA_RATIO[0] * expected
    found = (ratio >= AREA_RATIO[0]) & (ratio <= AREA_RATIO[1]) & single
    error = np.hypot(seen.x[:, colour] - ideal.x[:total, index], seen.y[:, colour] - ideal.y[:total, index])
    error = np.where(found, error, truth.size_px * np.sqrt(2)) / (2 * obj.radius_px)
    return found, error, ratio
