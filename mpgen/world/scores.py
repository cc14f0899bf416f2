"""One generated video against its truth: pure functions of frames, nothing is known of the model that made them.

Only generated frames are scored: those after `context_frames` true ones, in sections of `section_frames`. A score that
a video cannot have (nothing hides in it, say) is absent, never zero.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mpgen.errors import UserError
from mpgen.world.background import background_psnr, chart_error, drift, picture_psnr
from mpgen.world.detect import COLOURS, Detections, detect
from mpgen.world.scenes import SHAPES
from mpgen.world.templates import Ideal, ideal_objects
from mpgen.world.truth import HiddenSpan, Truth, TruthObject

IN_SIGHT = 0.6  # an object is judged on frames where the truth shows at least so much of it
WHOLE = 0.95  # and its shape is read where it shows so much
AREA_RATIO = (0.4, 2.5)  # of the true area: smaller is a splinter, larger a smear
SAME_OFFSET_PX = 0.25
_MIN_MOTION = 0.2  # diameters; a smaller motion cannot be told from the eyes' own error
_MIN_FRAMES = 3  # an identity is read on at least so many frames


@dataclass(frozen=True)
class ObjectScores:
    """One object over some frames, where the truth shows it.

    Args:
        frames: how many frames were judged.
        found: the share of them with one blob of its colour, neither splinter nor smear nor double.
        colour_right: found on most of them.
        position_error_diameters: mean distance from the true place; where not found, the frame's diagonal counts.
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
    colour_right: bool
    position_error_diameters: float
    area_ratio: float | None
    drawn_as_one: bool
    moved: bool | None


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


@dataclass(frozen=True)
class PlaceScores:
    """After the camera's return, where it stands as it stood before: PSNR in dB and landmarks found at their place.

    A camera that never left looks perfect here; the position error of the landmarks in all sections gives it away.
    `returns` has each return by itself: the second it begins at, and PSNR to the first visit, the mean of its frames.
    """

    frames: int
    returns: tuple[tuple[float, float], ...]
    psnr_to_first_visit: float
    psnr_to_truth: float
    landmarks_found: float | None


@dataclass(frozen=True)
class VideoScores:
    """All scores of one video; per-frame arrays start at the first generated frame, NaN where a frame has no score."""

    name: str
    family: str
    fps: int
    pixel_frames: int
    context_frames: int
    section_frames: int
    first_section: tuple[ObjectScores, ...]
    sections: tuple[tuple[ObjectScores, ...], ...]
    recalls: tuple[RecallScore, ...]
    place: PlaceScores | None
    background_psnr: Float[np.ndarray, " t"]
    background_drift: float | None
    chart_error: Float[np.ndarray, " t"]
    chart_drift: float | None

    @property
    def first_section_right(self) -> bool | None:
        """Whether everything that the start image shows is right in the first section."""
        return all(thing.drawn_as_one for thing in self.first_section) if self.first_section else None


def score_clip(
    frames: UInt8[np.ndarray, "t h w 3"],
    truth: Truth,
    true_frames: UInt8[np.ndarray, "t2 h2 w2 3"],
    context_frames: int = 1,
    section_frames: int = 16,
) -> VideoScores:
    """Compare a video with its truth.

    Args:
        frames: the generated video, its true context first; frames beyond the truth's end are not judged.
        truth: what is true.
        true_frames: the true video.
        context_frames: how many of `frames` were given to the generator, the start image included.
        section_frames: how many frames were generated at a time.

    Raises:
        UserError: the size is not the truth's, or there is no generated frame.
    """
    size = (truth.size_px, truth.size_px)
    for kind, shape in (("generated", frames.shape), ("true", true_frames.shape)):
        if shape[1:3] != size:
            raise UserError(
                f"{truth.name}: the {kind} frames are {shape[1]}x{shape[2]}, its truth is {size[0]}x{size[1]}"
            )
    if len(true_frames) != truth.num_frames:
        raise UserError(f"{truth.name}: the true video has {len(true_frames)} frames, its truth {truth.num_frames}")
    if context_frames < 1 or section_frames < 1:
        raise UserError(
            f"{truth.name}: context_frames {context_frames}, section_frames {section_frames}; at least 1 is wanted"
        )
    total = min(len(frames), truth.num_frames)
    if total <= context_frames:
        raise UserError(
            f"{truth.name}: too short: {total} frames that can be judged, {context_frames} of them were given"
        )
    frames, true_frames = frames[:total], true_frames[:total]
    seen = detect(frames, truth.objects[0].radius_px)
    ideal = ideal_objects(truth)
    sections = tuple(
        _score_objects(truth, seen, ideal, slice(start, min(start + section_frames, total)), context_frames)
        for start in range(context_frames, total, section_frames)
    )
    visible_at_start = {thing.id for thing in truth.objects if thing.visible[0] >= IN_SIGHT}
    first = tuple(thing for thing in sections[0] if thing.object_id in visible_at_start) if context_frames == 1 else ()
    background = background_psnr(frames, true_frames, truth, seen, context_frames)[context_frames:]
    chart = chart_error(frames, true_frames, truth)[context_frames:]
    return VideoScores(
        name=truth.name,
        family=truth.family,
        fps=truth.fps,
        pixel_frames=total,
        context_frames=context_frames,
        section_frames=section_frames,
        first_section=first,
        sections=sections,
        recalls=tuple(
            score
            for span in truth.hidden_spans
            if (score := _score_recall(truth, seen, span, total, context_frames)) is not None
        ),
        place=_score_place(frames, true_frames, truth, seen, ideal, context_frames),
        background_psnr=background,
        background_drift=drift(background),
        chart_error=chart,
        chart_drift=drift(chart),
    )


def _score_objects(
    truth: Truth, seen: Detections, ideal: Ideal, span: slice, context_frames: int
) -> tuple[ObjectScores, ...]:
    """Objects that the context has shown, on the frames of a section where they are in sight."""
    scores = []
    for index, thing in enumerate(truth.objects):
        told = (thing.visible[:context_frames] >= IN_SIGHT).any()
        judged = (thing.visible[span] >= IN_SIGHT) & ideal.known[span, index]
        if not told or not judged.any():
            continue
        found, error, ratio = _compare(truth, thing, seen, ideal, index)
        found, error, ratio = found[span][judged], error[span][judged], ratio[span][judged]
        before = max(span.start - 1, 0)
        still = (np.hypot(thing.x[span] - thing.x[before], thing.y[span] - thing.y[before])[judged]).mean()
        still /= 2 * thing.radius_px
        scores.append(
            ObjectScores(
                object_id=thing.id,
                colour=thing.colour,
                shape=thing.shape,
                frames=len(found),
                found=float(found.mean()),
                colour_right=bool(found.mean() > 0.5),
                position_error_diameters=float(error.mean()),
                area_ratio=float(ratio[found].mean()) if found.any() else None,
                drawn_as_one=bool(found.mean() > 0.5 and error.mean() < 1),
                moved=bool(error.mean() < still / 2) if still > _MIN_MOTION else None,
            )
        )
    return tuple(scores)


def _compare(
    truth: Truth, thing: TruthObject, seen: Detections, ideal: Ideal, index: int
) -> tuple[Bool[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """On each frame: found as one blob, position error in diameters, area over true area."""
    colour, total = COLOURS.index(thing.colour), len(seen.area)
    expected = np.maximum(ideal.area[:total, index], 1.0)
    ratio = seen.area[:, colour] / expected
    single = seen.other_area[:, colour] < AREA_RATIO[0] * expected
    found = (ratio >= AREA_RATIO[0]) & (ratio <= AREA_RATIO[1]) & single
    error = np.hypot(seen.x[:, colour] - ideal.x[:total, index], seen.y[:, colour] - ideal.y[:total, index])
    error = np.where(found, error, truth.size_px * np.sqrt(2)) / (2 * thing.radius_px)
    return found, error, ratio


def _score_recall(
    truth: Truth, seen: Detections, span: HiddenSpan, total: int, context_frames: int
) -> RecallScore | None:
    """None if it is not an occluded object, if its return was given, or if too little of it lies in the video."""
    thing = truth.objects[span.object_id]
    back = np.flatnonzero((np.arange(truth.num_frames) >= span.first_seen) & (thing.visible >= IN_SIGHT))[: truth.fps]
    back = back[back < total]
    whole = thing.visible[back] > WHOLE
    if thing.role != "target" or span.first_seen < context_frames or whole.sum() < _MIN_FRAMES:
        return None
    before = np.flatnonzero(thing.visible[: min(span.first_hidden, total)] >= IN_SIGHT)
    witnessed = int((before < context_frames).sum()) >= _MIN_FRAMES
    own_colour, _ = _identity(thing, seen, before)
    returned = span.first_seen
    if witnessed:
        out = _in_lane(thing, seen, max(context_frames, span.first_hidden), total)
        returned = int(out[0]) if len(out) else span.first_seen
        back = out[out < returned + 2 * truth.fps]
    colour, shape = _identity(thing, seen, back, anytime=witnessed)
    right = colour == thing.colour
    return RecallScore(
        object_id=thing.id,
        hidden_seconds=(returned - span.first_hidden) / truth.fps,
        witnessed=witnessed,
        came_back=colour is not None,
        seen_colour=colour,
        seen_shape=shape,
        colour_right=right,
        identity_right=right and shape == thing.shape,
        self_consistent=None if own_colour is None else own_colour == colour,
    )


def _in_lane(thing: TruthObject, seen: Detections, start: int, stop: int) -> Int[np.ndarray, " n"]:
    """Frames on which something nearly as large as the object is where it could be: on the line that it moves along."""
    on = _on_way(thing, seen, np.arange(start, stop), anytime=True)
    large = np.where(on, seen.area[start:stop], 0).max(1) > AREA_RATIO[0] * np.pi * thing.radius_px**2
    frames = np.flatnonzero(large) + start
    return frames if len(frames) >= _MIN_FRAMES else frames[:0]


def _on_way(
    thing: TruthObject, seen: Detections, frames: Int[np.ndarray, " n"], anytime: bool
) -> Bool[np.ndarray, "n colours"]:
    """What stands within a diameter of where the truth has the object on one of these frames, or at any time."""
    x, y = (thing.x, thing.y) if anytime else (thing.x[frames], thing.y[frames])
    way = np.unique(np.stack([x, y], 1).round(), axis=0)  # to a pixel, or a long video has too many places
    distances = np.hypot(seen.x[frames][..., None] - way[:, 0], seen.y[frames][..., None] - way[:, 1])
    return distances.min(-1) < 2 * thing.radius_px


def _identity(
    thing: TruthObject, seen: Detections, frames: Int[np.ndarray, " n"], anytime: bool = False
) -> tuple[str | None, str | None]:
    """Colour and shape seen most often where the object should be on these frames, give or take a diameter."""
    if len(frames) == 0:
        return None, None
    area = np.where(_on_way(thing, seen, frames, anytime), seen.area[frames], 0)
    large = area.max(1) > AREA_RATIO[0] * thing.radius_px**2
    if large.sum() < min(_MIN_FRAMES, len(frames)):
        return None, None
    colours = area.argmax(1)[large]
    colour = int(np.bincount(colours).argmax())
    # Whole where the truth says so; at another time, where it is about as large as it gets.
    fully = area[:, colour] > WHOLE * np.quantile(area[:, colour], 0.9) if anytime else thing.visible[frames] > WHOLE
    whole = fully & large
    shapes = seen.shape[frames, colour][whole if whole.any() else large]
    shapes = shapes[shapes >= 0]
    return COLOURS[colour], SHAPES[int(np.bincount(shapes).argmax())] if len(shapes) else None


def _score_place(
    frames: UInt8[np.ndarray, "t h w 3"],
    true_frames: UInt8[np.ndarray, "t h w 3"],
    truth: Truth,
    seen: Detections,
    ideal: Ideal,
    context_frames: int,
) -> PlaceScores | None:
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
            for number, thing in enumerate(truth.objects):
                if min(thing.visible[index], thing.visible[0]) >= IN_SIGHT:
                    is_found, error, _ = _compare(truth, thing, seen, ideal, number)
                    found.append(bool(is_found[index] and error[index] < 1))
        if len(to_first) > before:
            returns.append((start / truth.fps, float(np.mean(to_first[before:]))))
    if not to_first:
        return None
    landmarks = float(np.mean(found)) if found else None
    return PlaceScores(len(to_first), tuple(returns), float(np.mean(to_first)), float(np.mean(to_truth)), landmarks)
