"""Backgrounds of the world: dull colours with soft waves, so that whatever is saturated is an object."""

import numpy as np

from mpgen.world.scenes import Backdrop, Patch

GREY_CHART_STEPS = 8
GREY_CHART_DEPTH = 0.12  # how far the chart reaches into the frame
_LUMA = np.array([0.299, 0.587, 0.114])
_HUES = {  # dull tints around grey; each row sums to about zero luminance
    "grey": (0.0, 0.0, 0.0),
    "brown": (0.07, -0.01, -0.06),
    "teal": (-0.06, 0.02, 0.03),
    "slate": (-0.02, 0.0, 0.05),
}


def plain_backdrop(rng: np.random.Generator) -> Backdrop:
    """Soft, long waves."""
    return _backdrop(rng, waves=4, wavelengths=(0.2, 0.9), amplitude=0.06)


def textured_backdrop(rng: np.random.Generator, patches: tuple[Patch, ...]) -> Backdrop:
    """Strong, fine waves, to see a picture lose its detail."""
    return _backdrop(rng, waves=5, wavelengths=(0.11, 0.5), amplitude=0.11, patches=patches)


def grey_chart(horizontal: bool, first: bool) -> tuple[Patch, ...]:
    """A ramp of grey patches along the top or bottom edge (the left or right one if not horizontal)."""
    near, far = (0.02, GREY_CHART_DEPTH) if first else (1 - GREY_CHART_DEPTH, 0.98)
    ends = np.linspace(0.02, 0.98, GREY_CHART_STEPS + 1)
    patches = []
    for step in range(GREY_CHART_STEPS):
        level = 0.05 + 0.55 * step / (GREY_CHART_STEPS - 1)
        low, high = float(ends[step]), float(ends[step + 1])
        bounds = (low, near, high, far) if horizontal else (near, low, far, high)
        patches.append(Patch(*bounds, colour=(level, level, level)))
    return tuple(patches)


def wall_colour(rng: np.random.Generator, backdrop: Backdrop) -> tuple[float, float, float]:
    """A dull colour clearly darker or lighter than the backdrop."""
    behind = luminance(backdrop.colour)
    lighter = behind < 0.24 or (behind < 0.36 and rng.random() < 0.5)
    return _dull(rng, behind + (0.2 if lighter else -0.16))


def curtain_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """A dull colour that says nothing of what is behind."""
    return _dull(rng, rng.uniform(0.15, 0.45))


def luminance(colour: tuple[float, float, float]) -> float:
    """Of red, green and blue in [0, 1]."""
    return float(_LUMA @ colour)


def _dull(rng: np.random.Generator, light: float) -> tuple[float, float, float]:
    tint = np.array(_HUES[str(rng.choice(list(_HUES)))]) * rng.uniform(0.5, 1.0)
    red, green, blue = np.clip(light + tint, 0.03, 0.7)
    return float(red), float(green), float(blue)


def _backdrop(
    rng: np.random.Generator,
    waves: int,
    wavelengths: tuple[float, float],
    amplitude: float,
    patches: tuple[Patch, ...] = (),
) -> Backdrop:
    lengths = np.exp(rng.uniform(*np.log(wavelengths), waves))
    angles = rng.uniform(0, np.pi, waves)
    vectors = 2 * np.pi / lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    strengths = amplitude * rng.uniform(0.6, 1.0, waves) * 2 / waves  # the sum stays below twice the amplitude
    return Backdrop(
        colour=_dull(rng, rng.uniform(0.17, 0.42)),
        wave_vectors=vectors,
        phases=rng.uniform(0, 2 * np.pi, waves),
        amplitudes=strengths[:, None] * rng.uniform(0.75, 1.0, (waves, 3)),
        patches=patches,
    )
