"""Does what was hidden come back as it was?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from mpgen.world.scenes import SHAPES
from mpgen.world.scoring.detect import COLOURS, Detections
from mpgen.world.scoring.objects import AREA_RATIO, IN_SIGHT
from mpgen.world.truth import HiddenSpan, Truth, TruthObject

WHOLE = 0.95  # an object's shape is read where the truth shows so much of it
_MIN_FRAMES = 3  # an identity is read on at least so many frames


@dataclass(frozen=True)
class RecallScore:
    """What came out where a hidden object should come out.

    `witnessed` tells whether the object had been given in true frames. Nothing given says when it comes out, so then it
    may at any time: it is judged on the two seconds from the moment that something is in its lane, and `hidden_seconds`
    are the video's own (the truth's if nothing came). If not, it is judged where and when the truth shows it, and only
    against what the video itself had shown before (`self_consistent`, a colour; None if nothing was there).
    """

    object_id: int
    hidden_seconds: float
    witnessed: bool
    came_back: bool
    seen_colour: str | None
    seen_shape: str | None
    colour_right: bool
    identity_right: bool
    self_consistent: bool | None


def score_recall(
    truth: Truth, seen: Detections, span: HiddenSpan, total: int, context_frames: int
) -> RecallScore | None:
    """None if it is not an occluded object, if its return was given, or if too little of it lies in the video."""
    obj = truth.objects[span.object_id]
    back = np.flatnonzero((np.arange(truth.num_frames) >= span.first_seen) & (obj.visible >= IN_SIGHT))[: truth.fps]
    back = back[back < total]
    whole = obj.visible[back] > WHOLE
    if obj.role != "target" or span.first_seen < context_frames or whole.sum() < _MIN_FRAMES:
        return None
    before = np.flatnonzero(obj.visible[: min(span.first_hidden, total)] >= IN_SIGHT)
    witnessed = int((before < context_frames).sum()) >= _MIN_FRAMES
    own_colour, _ = _identity(obj, seen, before)
    returned = span.first_seen
    if witnessed:
        out = _in_lane(obj, seen, max(context_frames, span.first_hidden), total)
        returned = int(out[0]) if len(out) else span.first_seen
        back = out[out < returned + 2 * truth.fps]
    colour, shape = _identity(obj, seen, back, anytime=witnessed)
    right = colour == obj.colour
    return RecallScore(
        object_id=obj.id,
        hidden_seconds=(returned - span.first_hidden) / truth.fps,
        witnessed=witnessed,
        came_back=colour is not None,
        seen_colour=colour,
        seen_shape=shape,
        colour_right=right,
        identity_right=right and shape == obj.shape,
        self_consistent=None if own_colour is None else own_colour == colour,
    )


def _in_lane(obj: TruthObject, seen: Detections, start: int, stop: int) -> Int[np.ndarray, " n"]:
    """Frames on which something nearly as large as the object is where it could be: on the line that it moves along."""
    on = _on_way(obj, seen, np.arange(start, stop), anytime=True)
    large = np.where(on, seen.area[start:stop], 0).max(1) > AREA_RATIO[0] * np.pi * obj.radius_px**2
    frames = np.flatnonzero(large) + start
    return frames if len(frames) >= _MIN_FRAMES else frames[:0]


def _on_way(
    obj: TruthObject, seen: Detections, frames: Int[np.ndarray, " n"], anytime: bool
) -> Bool[np.ndarray, "n colours"]:
    """What stands within a diameter of where the truth has the object on one of these frames, or at any time."""
    x, y = (obj.x, obj.y) if anytime else (obj.x[frames], obj.y[frames])
    way = np.unique(np.stack([x, y], 1).round(), axis=0)  # to a pixel, or a long video has too many positions
    distances = np.hypot(seen.x[frames][..., None] - way[:, 0], seen.y[frames][..., None] - way[:, 1])
    return distances.min(-1) < 2 * obj.radius_px


def _identity(
    obj: TruthObject, seen: Detections, frames: Int[np.ndarray, " n"], anytime: bool = False
) -> tuple[str | None, str | None]:
    """Colour and shape seen most often where the object should be on these frames, give or take a diameter."""
    if len(frames) == 0:
        return None, None
    area = np.where(_on_way(obj, seen, frames, anytime), seen.area[frames], 0)
    large = area.max(1) > AREA_RATIO[0] * obj.radius_px**2
    if large.sum() < min(_MIN_FRAMES, len(frames)):
        return None, None
    colours = area.argmax(1)[large]
    colour = int(np.bincount(colours).argmax())
    # Whole where the truth says so; at another time, where it is about as large as it gets.
    fully = area[:, colour] > WHOLE * np.quantile(area[:, colour], 0.9) if anytime else obj.visible[frames] > WHOLE
    whole = fully & large
    shapes = seen.shape[frames, colour][whole if whole.any() else large]
    shapes = shapes[shapes >= 0]
    return COLOURS[colour], SHAPES[int(np.bincount(shapes).argmax())] if len(shapes) else None
