"""The background of a generated video against the true one: what should not change, and how much it does.

Objects are excluded here, because whether they stand where they should is another score.
"""

import numpy as np
from jaxtyping import Float, UInt8

from mpgen.sections import frames_at_each_end
from mpgen.world.scoring.detect import Detections
from mpgen.world.truth import Truth

PSNR_CAP = 60.0  # dB; equal pictures
_MIN_BACKGROUND = 0.1  # of the frame's pixels; fewer say nothing about the background


def background_psnr(
    frames: UInt8[np.ndarray, "t h w 3"],
    true_frames: UInt8[np.ndarray, "t h w 3"],
    truth: Truth,
    seen: Detections,
    context_frames: int,
) -> Float[np.ndarray, " t"]:
    """PSNR of each frame in dB, on pixels that no object touches in either video and that the context has shown.

    NaN where too few pixels are left: the camera looks at what the generator was never given.
    """
    psnr = np.full(len(frames), np.nan)
    centres = np.arange(truth.size_px) + 0.5
    first, last = truth.camera[:context_frames].min(0), truth.camera[:context_frames].max(0) + truth.size_px
    reach = (1.35 * truth.objects[0].radius_px + 2) ** 2
    for index in range(len(frames)):
        canvas_x, canvas_y = centres + truth.camera[index, 0], centres + truth.camera[index, 1]
        keep = ((canvas_y > first[1]) & (canvas_y < last[1]))[:, None] & ((canvas_x > first[0]) & (canvas_x < last[0]))
        positions = [(obj.x[index], obj.y[index]) for obj in truth.objects if obj.visible[index] > 0]
        found = np.flatnonzero(seen.area[index] > 0)
        positions += zip(seen.x[index, found], seen.y[index, found], strict=True)
        for x, y in positions:
            keep &= (centres[None] - x) ** 2 + (centres[:, None] - y) ** 2 > reach
        if keep.mean() >= _MIN_BACKGROUND:
            psnr[index] = picture_psnr(frames[index][keep], true_frames[index][keep])
    return psnr


def chart_error(
    frames: UInt8[np.ndarray, "t h w 3"], true_frames: UInt8[np.ndarray, "t h w 3"], truth: Truth
) -> Float[np.ndarray, " t"]:
    """How far the grey patches' mean colours are off, in 8-bit levels; NaN for a video without a chart."""
    if not truth.chart_boxes:
        return np.full(len(frames), np.nan)
    errors = [
        np.abs(
            frames[:, top:bottom, left:right].mean((1, 2)) - true_frames[:, top:bottom, left:right].mean((1, 2))
        ).mean(-1)
        for left, top, right, bottom in truth.chart_boxes
    ]
    return np.mean(errors, 0)


def picture_psnr(one: UInt8[np.ndarray, "*shape"], other: UInt8[np.ndarray, "*shape"]) -> float:
    """PSNR in dB of 8-bit pictures, at most PSNR_CAP."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(min(PSNR_CAP, 10 * np.log10(255**2 / max(error, 1e-9))))


def drift(values: Float[np.ndarray, " t"]) -> float | None:
    """Mean of the last 15 % of the generated frames minus mean of the first; None if either end has no score."""
    ends = frames_at_each_end(len(values))
    first, last = values[:ends], values[-ends:]
    first, last = first[np.isfinite(first)], last[np.isfinite(last)]
    return float(last.mean() - first.mean()) if len(first) and len(last) else None
