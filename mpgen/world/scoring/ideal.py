"""What should be seen of each object: ideal pictures drawn from the truth alone.

They give the right area and centre also of an object that is partly covered by another or cut by the frame's edge.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from mpgen.world.shapes import shape_coverage
from mpgen.world.truth import Truth

_CHUNK_FRAMES = 64
_WALL_TOLERANCE = 0.08  # the truth has no walls: where it sees less than the ideal picture, a wall is in the way


@dataclass(frozen=True)
class Ideal:
    """For every frame and object: how large it should look (square pixels), where, and whether this is known.

    `known` is false where a wall covers a part, because the truth does not say which.
    """

    area: Float[np.ndarray, "t objects"]
    x: Float[np.ndarray, "t objects"]
    y: Float[np.ndarray, "t objects"]
    known: Bool[np.ndarray, "t objects"]


def ideal_objects(truth: Truth) -> Ideal:
    """Draw every object of every frame and measure what can be seen of it."""
    shape = (truth.num_frames, len(truth.objects))
    area, x, y, known = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    centres = np.arange(truth.size_px) + 0.5
    for start in range(0, truth.num_frames, _CHUNK_FRAMES):
        span = slice(start, start + _CHUNK_FRAMES)
        passes = np.float32(1)
        for index, obj in enumerate(truth.objects):  # from the front to the back
            dx = centres[None, None, :] - obj.x[span, None, None]
            dy = centres[None, :, None] - obj.y[span, None, None]
            coverage = shape_coverage(obj.shape, dx, dy, obj.radius_px).astype(np.float32)
            shown: Float32[np.ndarray, "t h w"] = coverage * passes
            passes = passes * (1 - coverage)
            mass = shown.sum((1, 2), dtype=np.float64)
            area[span, index] = mass
            x[span, index] = (shown.sum(1) @ centres) / np.maximum(mass, 1e-6)
            y[span, index] = (shown.sum(2) @ centres) / np.maximum(mass, 1e-6)
            known[span, index] = mass / _full_area(obj.shape, obj.radius_px) - obj.visible[span] < _WALL_TOLERANCE
    return Ideal(area, x, y, known)


def _full_area(shape: str, radius_px: float) -> float:
    offsets = np.arange(-int(2 * radius_px), int(2 * radius_px) + 1) + 0.5
    return float(shape_coverage(shape, offsets[None], offsets[:, None], radius_px).sum())
