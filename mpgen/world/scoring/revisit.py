"""Does a view look as it did, when the camera is back?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from mpgen.world.scoring.detect import Detections
from mpgen.world.scoring.fidelity import picture_psnr
from mpgen.world.scoring.ideal import Ideal
from mpgen.world.scoring.objects import IN_SIGHT, compare
from mpgen.world.truth import Truth

SAME_OFFSET_PX = 0.25


@dataclass(frozen=True)
class RevisitScores:
    """After the camera's return, where it stands as it stood before: PSNR in dB and landmarks found where they were.

    A camera that never left looks perfect here; the position error of the landmarks in all sections gives it away.
    `returns` has each return by itself: the second it begins at, and PSNR to the first visit, the mean of its frames.
    """

    frames: int
    returns: tuple[tuple[float, float], ...]
    psnr_to_first_visit: float
    psnr_to_truth: float
    landmarks_found: float | None


def score_revisits(
    frames: UInt8[np.ndarray, "t h w 3"],
    true_frames: UInt8[np.ndarray, "t h w 3"],
    truth: Truth,
    seen: Detections,
    ideal: Ideal,
    context_frames: int,
) -> RevisitScores | None:
    to_first, to_truth, found, returns = [], [], [], []
    for start, stop in truth.revisit_spans:
        before = len(to_first)
        for index in range(max(start, context_frames), min(stop, len(frames))):
            distance = np.abs(truth.camera[:start] - truth.camera[index]).max(1)
            if distance.min() > SAME_OFFSET_PX:
                continue
            visit = int(np.argmax(distance <= SAME_OFFSET_PX))
            to_first.append(picture_psnr(frames[index], frames[visit]))
            to_truth.append(picture_psnr(frames[index], true_frames[index]))
            for number, obj in enumerate(truth.objects):
                if min(obj.visible[index], obj.visible[0]) >= IN_SIGHT:
                    is_found, error, _ = compare(truth, obj, seen, ideal, number)
                    found.append(bool(is_found[index] and error[index] < 1))
        if len(to_first) > before:
            returns.append((start / truth.fps, float(np.mean(to_first[before:]))))
    if not to_first:
        return None
    landmarks = float(np.mean(found)) if found else None
    return RevisitScores(len(to_first), tuple(returns), float(np.mean(to_first)), float(np.mean(to_truth)), landmarks)
