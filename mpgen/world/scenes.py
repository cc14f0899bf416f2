"""What one video of the world consists of: objects with a position on every frame, walls, a background, a camera.

Lengths are fractions of the frame's side and times are frames, so one scene can be drawn at any size. Nothing here
draws.
"""

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

SHAPES = ("disc", "square", "triangle", "diamond", "cross", "ring")

# Saturated and far apart in chroma, so that the nearest one is still right after H.264's 4:2:0 and some blur.
PALETTE = MappingProxyType(
    {
        "red": (222, 30, 38),
        "orange": (255, 140, 0),
        "yellow": (240, 236, 50),
        "green": (36, 180, 48),
        "cyan": (50, 222, 232),
        "blue": (40, 70, 240),
        "magenta": (230, 50, 225),
        "white": (246, 246, 246),
    }
)

DIRECTIONS = MappingProxyType({"right": (1.0, 0.0), "left": (-1.0, 0.0), "down": (0.0, 1.0), "up": (0.0, -1.0)})
_HALF = math.sqrt(0.5)
DIAGONALS = MappingProxyType(
    {
        "up left": (-_HALF, -_HALF),
        "up right": (_HALF, -_HALF),
        "down left": (-_HALF, _HALF),
        "down right": (_HALF, _HALF),
    }
)


@dataclass(frozen=True)
class Patch:
    """A rectangle with stripes: a wall to hide behind, or one step of a grey chart.

    Bounds are fractions of the frame's side; the colour is in [0, 1]; `stripe_wave` is the stripes' wavelength.
    """

    left: float
    top: float
    right: float
    bottom: float
    colour: tuple[float, float, float]
    stripe_amplitude: float = 0.0
    stripe_wave: float = 0.1


@dataclass(frozen=True)
class Backdrop:
    """A base colour in [0, 1] plus cosine gratings, and patches painted on it.

    The gratings are waves over the canvas: wave vectors in radians per frame side, phases, and RGB amplitudes.
    """

    colour: tuple[float, float, float]
    wave_vectors: Float[np.ndarray, "waves 2"]
    phases: Float[np.ndarray, " waves"]
    amplitudes: Float[np.ndarray, "waves 3"]
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True)
class Track:
    """One object: who it is, and where its centre is on every frame, seen through the camera."""

    shape: str
    colour: str
    x: Float[np.ndarray, " t"]
    y: Float[np.ndarray, " t"]
    role: str  # "target" (hides), "distractor" (stays in sight), "landmark" (the camera leaves it) or "mover"
    behind_walls: bool = False


@dataclass(frozen=True)
class Scene:
    """Everything that is needed to draw one video and to know what is true in it.

    `object_radius` is that of every object. `tracks` go from the front to the back: the first hides those after it.
    `camera` is the window's offset on the canvas. `lit` is what the walls are brightened (or darkened) by on each
    frame, in [-1, 1] of the full range. `curtain`, whose bounds do not matter, is before everything; `drawn` is how
    much of the picture it covers on each frame, from the left if positive and from the right if negative, in [-1, 1].
    """

    family: str
    caption: str
    fps: int
    object_radius: float
    tracks: tuple[Track, ...]
    backdrop: Backdrop
    camera: Float[np.ndarray, "t 2"]
    walls: tuple[Patch, ...] = ()
    lit: Float[np.ndarray, " t"] | None = None
    curtain: Patch | None = None
    drawn: Float[np.ndarray, " t"] | None = None

    @property
    def num_frames(self) -> int:
        return len(self.camera)

    def between(self, start: int, stop: int) -> "Scene":
        """The same story on these frames alone."""
        span = slice(start, stop)
        return replace(
            self,
            tracks=tuple(replace(track, x=track.x[span], y=track.y[span]) for track in self.tracks),
            camera=self.camera[span],
            lit=None if self.lit is None else self.lit[span],
            drawn=None if self.drawn is None else self.drawn[span],
        )


def bouncing(start: float, velocity: float, num_frames: int, fps: int, margin: float) -> Float[np.ndarray, " t"]:
    """The coordinate of something that moves evenly and is reflected near both edges of the frame.

    Args:
        start: in [margin, 1 - margin].
        velocity: frame sides per second.
        num_frames: of the video.
        fps: frames per second.
        margin: between the edge and where it is reflected.
    """
    free = 1 - 2 * margin
    way = np.mod(start - margin + velocity / fps * np.arange(num_frames), 2 * free)
    return margin + free - np.abs(way - free)


def fixed(value: float, num_frames: int) -> Float[np.ndarray, " t"]:
    return np.full(num_frames, float(value))
