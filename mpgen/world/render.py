"""Draw a scene: anti-aliased shapes from signed distances, composed from the front to the back, many frames at a time.

Front to back because what is left of the light when an object's turn comes is also how much of it can be seen.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mpgen.world.scenes import PALETTE, Backdrop, Patch, Scene, Track
from mpgen.world.shapes import REACH, shape_coverage

CHUNK_FRAMES = 32  # as many as stay in the cache at 64 px; one-minute videos are drawn piece by piece


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames of a scene, and of each track the fraction that can be seen, in [0, 1]."""

    frames: UInt8[np.ndarray, "t h w 3"]
    visible: Float[np.ndarray, "t tracks"]


def render_scene(scene: Scene, size_px: int) -> UInt8[np.ndarray, "t h w 3"]:
    """All frames of a scene at once; for long videos see `render_chunks`."""
    return np.concatenate([chunk.frames for chunk in render_chunks(scene, size_px)])


def render_chunks(scene: Scene, size_px: int) -> Iterator[Chunk]:
    """Draw a scene piece by piece, at most CHUNK_FRAMES frames each."""
    backdrop = _BackdropPainter(scene.backdrop, size_px)
    walls = [(_patch_coverage(wall, size_px), _patch_colour(wall, size_px)) for wall in scene.walls]
    lit = np.zeros(scene.num_frames) if scene.lit is None else scene.lit
    for start in range(0, scene.num_frames, CHUNK_FRAMES):
        span = slice(start, min(start + CHUNK_FRAMES, scene.num_frames))
        canvas = _Canvas(span.stop - span.start, size_px, scene.object_radius)
        visible = np.empty((span.stop - span.start, len(scene.tracks)))
        if scene.curtain is not None and scene.drawn is not None:
            canvas.add_plane(_curtain_coverage(scene.drawn[span], size_px), _patch_colour(scene.curtain, size_px))
        for index, track in enumerate(scene.tracks):
            if not track.behind_walls:
                visible[:, index] = canvas.add_object(track, span)
        for coverage, colour in walls:
            canvas.add_plane(coverage, colour + np.float32(255) * lit[span, None, None, None].astype(np.float32))
        for index, track in enumerate(scene.tracks):
            if track.behind_walls:
                visible[:, index] = canvas.add_object(track, span)
        yield Chunk(canvas.finish(backdrop.paint(scene.camera[span])), visible)


class _Canvas:
    """Frames being composed: the light gathered so far, and the fraction that still passes to what lies behind."""

    def __init__(self, num_frames: int, size_px: int, object_radius: float) -> None:
        self._size = size_px
        self._radius = object_radius * size_px
        self._half = math.ceil(REACH * self._radius) + 2
        self._pad = 2 * self._half + 2  # objects outside the frame are drawn into a margin where no light passes
        padded = size_px + 2 * self._pad
        self._light = np.zeros((num_frames, padded, padded, 3), np.float32)
        self._passes = np.zeros((num_frames, padded, padded), np.float32)
        self._inside = slice(self._pad, self._pad + size_px)
        self._passes[:, self._inside, self._inside] = 1

    def add_object(self, track: Track, span: slice) -> Float[np.ndarray, " t"]:
        """Draw an object behind everything so far and return the fraction of it that can be seen."""
        offsets = np.arange(-self._half, self._half + 1)
        columns, dx = self._window(track.x[span], offsets)
        rows, dy = self._window(track.y[span], offsets)
        coverage = shape_coverage(track.shape, dx[:, None, :], dy[:, :, None], self._radius).astype(np.float32)
        at = (np.arange(len(rows))[:, None, None], rows[:, :, None], columns[:, None, :])
        passes = self._passes[at]
        shown = passes * coverage
        self._light[at] += shown[..., None] * np.asarray(PALETTE[track.colour], np.float32)
        self._passes[at] = passes - shown
        return shown.sum((1, 2), dtype=np.float64) / coverage.sum((1, 2), dtype=np.float64)

    def _window(self, centre: Float[np.ndarray, " t"], offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Padded pixel indices around a centre on one axis, and their distances from it in pixels."""
        centre_px = centre * self._size
        cell = np.floor(centre_px)
        distance = offsets[None] + 0.5 - (centre_px - cell)[:, None]
        cell = np.clip(cell, -self._half - 1, self._size + self._half).astype(np.int64)
        return cell[:, None] + offsets[None] + self._pad, distance

    def add_plane(self, coverage: Float[np.ndarray, "*#t #h w"], colour: Float[np.ndarray, "*#t h w 3"]) -> None:
        """Draw something that is not an object behind everything so far."""
        inside = (slice(None), self._inside, self._inside)
        shown = self._passes[inside] * coverage
        self._light[inside] += shown[..., None] * colour
        self._passes[inside] -= shown

    def finish(self, backdrop: Float[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "t h w 3"]:
        """Let the rest of the light come from the backdrop (one picture, or one for each frame)."""
        inside = (slice(None), self._inside, self._inside)
        light = self._light[inside] + self._passes[inside][..., None] * backdrop
        return np.rint(np.clip(light, 0, 255)).astype(np.uint8)


class _BackdropPainter:
    """Paints the backdrop as a camera sees it; the waves' cosines are computed once and shifted by rotation."""

    def __init__(self, backdrop: Backdrop, size_px: int) -> None:
        self._backdrop, self._size = backdrop, size_px
        centres = (np.arange(size_px) + 0.5) / size_px
        points = np.stack(np.meshgrid(centres, centres, indexing="xy"), -1).reshape(-1, 2)
        angles = points @ backdrop.wave_vectors.T + backdrop.phases
        self._basis = np.concatenate([np.cos(angles), -np.sin(angles)], 1)
        self._patches = [(_patch_coverage(p, size_px), _patch_colour(p, size_px)) for p in backdrop.patches]
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def paint(self, camera: Float[np.ndarray, "t 2"]) -> Float[np.ndarray, "n h w 3"]:
        """Backdrops in [0, 255]: a single one if the camera stands still."""
        if (camera == camera[0]).all():
            camera = camera[:1]
            if self._last is not None and (self._last[0] == camera).all():
                return self._last[1]
        shift = camera @ self._backdrop.wave_vectors.T
        amplitudes = self._backdrop.amplitudes
        weights = np.concatenate([np.cos(shift)[..., None] * amplitudes, np.sin(shift)[..., None] * amplitudes], 1)
        # In double precision, so that the order in which a library sums changes no rounded pixel.
        picture = 255 * (np.asarray(self._backdrop.colour) + self._basis @ weights)
        picture = picture.reshape(len(camera), self._size, self._size, 3).astype(np.float32)
        for coverage, colour in self._patches:
            picture += coverage[..., None] * (colour - picture)
        self._last = (camera, picture)
        return picture


def _curtain_coverage(drawn: Float[np.ndarray, " t"], size_px: int) -> Float[np.ndarray, "t 1 w"]:
    from_edge = np.arange(size_px)
    columns = np.where(drawn[:, None] >= 0, from_edge, from_edge[::-1])
    return np.clip(np.abs(drawn)[:, None] * size_px - columns, 0.0, 1.0).astype(np.float32)[:, None]


def _patch_coverage(patch: Patch, size_px: int) -> Float[np.ndarray, "h w"]:
    edges = np.arange(size_px + 1) / size_px

    def along(low: float, high: float) -> Float[np.ndarray, " n"]:
        overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        return np.clip(overlap * size_px, 0.0, 1.0)

    coverage = along(patch.top, patch.bottom)[:, None] * along(patch.left, patch.right)[None]
    return coverage.astype(np.float32)


def _patch_colour(patch: Patch, size_px: int) -> Float[np.ndarray, "h w 3"]:
    centres = (np.arange(size_px) + 0.5) / size_px
    slanted = centres[None] + centres[:, None]
    stripes = patch.stripe_amplitude * np.cos(2 * np.pi / patch.stripe_wave * slanted)
    return (255 * (np.asarray(patch.colour) + stripes[..., None])).astype(np.float32)
