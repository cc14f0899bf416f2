"""The world's shapes: how much of each pixel they cover, from signed distances."""

import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

REACH = 1.2  # no shape reaches farther than this many radii from its centre

Plane = Float[np.ndarray, "..."]


def _disc(x: Plane, y: Plane) -> Plane:
    return np.hypot(x, y) - 1


def _square(x: Plane, y: Plane) -> Plane:
    return np.maximum(np.abs(x), np.abs(y)) - 0.86


def _triangle(x: Plane, y: Plane) -> Plane:
    slope = math.sqrt(3) / 2
    return np.maximum(y, slope * np.abs(x) - y / 2) - 0.6


def _diamond(x: Plane, y: Plane) -> Plane:
    return (np.abs(x) + np.abs(y) - REACH) * math.sqrt(0.5)


def _cross(x: Plane, y: Plane) -> Plane:
    along, across = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return np.maximum(along - 1, across - 0.36)


def _ring(x: Plane, y: Plane) -> Plane:
    return np.abs(np.hypot(x, y) - 0.76) - 0.26


_DISTANCES: MappingProxyType[str, Callable[[Plane, Plane], Plane]] = MappingProxyType(
    {"disc": _disc, "square": _square, "triangle": _triangle, "diamond": _diamond, "cross": _cross, "ring": _ring}
)


def shape_coverage(shape: str, dx: Plane, dy: Plane, radius_px: float) -> Plane:
    """How much of each pixel a shape covers, in [0, 1].

    Args:
        shape: one of SHAPES.
        dx: pixels from the shape's centre to the pixel's centre, to the right.
        dy: the same, downwards.
        radius_px: the object's radius.
    """
    return np.clip(0.5 - radius_px * _DISTANCES[shape](dx / radius_px, dy / radius_px), 0.0, 1.0)
