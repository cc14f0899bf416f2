"""Find the world's coloured objects in pictures, good or bad ones: the eyes of the world scores.

A pixel belongs to the palette colour whose hue it has, seen from the frame's own background, so a picture may be
blurred, paler or a little off in colour and still be read. One labelling then joins neighbours of one colour, over many
frames.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from mpgen.world.scenes import PALETTE, SHAPES
from mpgen.world.shapes import shape_coverage

COLOURS = tuple(PALETTE)
CHUNK_FRAMES = 64
_MIN_MIXTURE = 0.45  # a pixel is an object's if at least so much of it is
_WHITE_LUMA, _WHITE_CHROMA = 175.0, 26.0  # brighter and greyer than any background of the world
_WHITE = COLOURS.index("white")
_TO_YCC = np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]], np.float32)
_MIN_AREA = 0.15  # of a disc's: below, a blob is noise
_MAX_WAVES = 256  # labels jump, so even a snake over the whole frame is one label long before


@dataclass(frozen=True)
class Detections:
    """For every frame and palette colour (in the order of COLOURS) the largest object of that colour.

    `x` and `y` are pixels, NaN where there is none; `area` and `other_area` (of the largest blob of the same colour
    that stands more than a diameter away) are square pixels; `shape` is an index into SHAPES, -1 where there is none.
    """

    x: Float[np.ndarray, "t colours"]
    y: Float[np.ndarray, "t colours"]
    area: Float[np.ndarray, "t colours"]
    other_area: Float[np.ndarray, "t colours"]
    shape: Int[np.ndarray, "t colours"]


def detect(frames: UInt8[np.ndarray, "t h w 3"], radius_px: float) -> Detections:
    """Find the objects; `radius_px` is the radius that they should have."""
    parts = [_detect(frames[start : start + CHUNK_FRAMES], radius_px) for start in range(0, len(frames), CHUNK_FRAMES)]
    return Detections(
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        area=np.concatenate([part.area for part in parts]),
        other_area=np.concatenate([part.other_area for part in parts]),
        shape=np.concatenate([part.shape for part in parts]),
    )


def _detect(frames: UInt8[np.ndarray, "t h w 3"], radius_px: float) -> Detections:
    colour, mixture = classify_pixels(frames)
    labels = label_blobs(colour)
    shape = (len(frames), len(COLOURS))
    x, y = np.full(shape, np.nan), np.full(shape, np.nan)
    area, other_area = np.zeros(shape), np.zeros(shape)
    pixels = np.nonzero(colour >= 0)
    _, blob = np.unique(labels[pixels], return_inverse=True)
    if len(blob):
        weight = mixture[pixels].astype(np.float64)
        mass, size = np.bincount(blob, weight), np.bincount(blob).astype(np.float64)
        blob_x = np.bincount(blob, weight * (pixels[2] + 0.5)) / mass
        blob_y = np.bincount(blob, weight * (pixels[1] + 0.5)) / mass
        first = np.unique(blob, return_index=True)[1]
        key = pixels[0][first] * len(COLOURS) + colour[pixels][first]  # (frame, colour) as one number
        size[size < _MIN_AREA * np.pi * radius_px**2] = 0
        order = np.lexsort((-size, key))
        leader = order[np.unique(key[order], return_index=True)[1]]
        leader_of = dict(zip(key[leader].tolist(), leader.tolist(), strict=True))
        mine = np.array([leader_of[k] for k in key.tolist()])
        near = np.hypot(blob_x - blob_x[mine], blob_y - blob_y[mine]) <= 2 * radius_px
        cells = shape[0] * shape[1]
        near_mass = np.where(near, mass, 0)
        total = np.bincount(key, near_mass, cells)
        kept = np.bincount(key, np.where(near, size, 0), cells)
        with np.errstate(invalid="ignore", divide="ignore"):
            x = np.where(kept > 0, np.bincount(key, near_mass * blob_x, cells) / total, np.nan).reshape(shape)
            y = np.where(kept > 0, np.bincount(key, near_mass * blob_y, cells) / total, np.nan).reshape(shape)
        area = kept.reshape(shape)
        np.maximum.at(other_area.reshape(-1), key, np.where(near, 0, size))
    return Detections(x, y, area, other_area, _shapes(colour, mixture, x, y, radius_px))


def classify_pixels(
    frames: UInt8[np.ndarray, "t h w 3"],
) -> tuple[Int[np.ndarray, "t h w"], Float32[np.ndarray, "t h w"]]:
    """Of each pixel the palette colour (-1: background), and how much of that colour is in it, in [0, 1]."""
    ycc = frames.astype(np.float32) @ _TO_YCC.T
    background = np.median(ycc.reshape(len(frames), -1, 3), axis=1)[:, None, None]
    chroma = ycc[..., 1:] - background[..., 1:]
    palette = np.array(list(PALETTE.values()), np.float32) @ _TO_YCC.T
    axes = palette[None, None, None, :, 1:] - background[..., None, 1:]  # t 1 1 colours 2
    lengths = np.linalg.norm(axes, axis=-1)
    along = np.einsum("thwc,tkc->thwk", chroma, axes[:, 0, 0])
    lengths[..., _WHITE] = 1  # it has no hue; found by its luminance below
    cosine = along / lengths
    cosine[..., _WHITE] = -np.inf
    colour = cosine.argmax(-1)
    mixture = np.take_along_axis(along / lengths**2, colour[..., None], -1)[..., 0]
    is_white = (ycc[..., 0] >= _WHITE_LUMA) & (np.linalg.norm(chroma, axis=-1) < _WHITE_CHROMA)
    colour[is_white], mixture[is_white] = _WHITE, 1
    colour[mixture < _MIN_MIXTURE] = -1
    return colour, np.clip(mixture, 0, 1).astype(np.float32)


def label_blobs(colour: Int[np.ndarray, "t h w"]) -> Int[np.ndarray, "t h w"]:
    """A number for each pixel, equal for pixels of one colour that touch along an edge; -1 stays -1."""
    labels = np.arange(colour.size).reshape(colour.shape)
    inside = colour >= 0
    down = inside[:, 1:] & (colour[:, 1:] == colour[:, :-1])
    right = inside[:, :, 1:] & (colour[:, :, 1:] == colour[:, :, :-1])
    for _ in range(_MAX_WAVES):
        before = labels.copy()
        for joined, late, early in (
            (down, np.s_[:, 1:], np.s_[:, :-1]),
            (right, np.s_[:, :, 1:], np.s_[:, :, :-1]),
        ):
            smaller = np.minimum(labels[late], labels[early])
            labels[late] = np.where(joined, smaller, labels[late])
            labels[early] = np.where(joined, np.minimum(smaller, labels[early]), labels[early])
        labels = labels.reshape(-1)[labels]  # the number of the pixel it is named after: halves the way that is left
        if (labels == before).all():
            break
    return np.where(inside, labels, -1)


def _shapes(
    colour: Int[np.ndarray, "t h w"],
    mixture: Float32[np.ndarray, "t h w"],
    x: Float[np.ndarray, "t colours"],
    y: Float[np.ndarray, "t colours"],
    radius_px: float,
) -> Int[np.ndarray, "t colours"]:
    """The shape whose ideal picture at the same position overlaps best (intersection over union)."""
    shape = np.full(x.shape, -1)
    frame, kind = np.nonzero(np.isfinite(x))
    if not len(frame):
        return shape
    half = int(np.ceil(1.5 * radius_px))
    offsets = np.arange(-half, half + 1)
    columns = np.floor(x[frame, kind]).astype(int)[:, None] + offsets
    rows = np.floor(y[frame, kind]).astype(int)[:, None] + offsets
    height, width = colour.shape[1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    at = (frame[:, None, None], rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :])
    seen = np.where(inside & (colour[at] == kind[:, None, None]), mixture[at], 0)
    dx = (columns + 0.5 - x[frame, kind][:, None])[:, None, :]
    dy = (rows + 0.5 - y[frame, kind][:, None])[:, :, None]
    overlaps = []
    for name in SHAPES:
        ideal = np.where(inside, shape_coverage(name, dx, dy, radius_px), 0)
        overlaps.append(np.minimum(seen, ideal).sum((1, 2)) / np.maximum(seen, ideal).sum((1, 2)))
    shape[frame, kind] = np.argmax(overlaps, 0)
    return shape
