"""What is true in a rendered video, as a file beside it: the scores read this and the frames, nothing else.

Lengths are pixels of the rendered video, times are frames. A span of frames is a pair: first, and first after it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mpgen.atomic import replacing
from mpgen.errors import UserError
from mpgen.world.scenes import OBJECT_RADIUS, PALETTE, SHAPES, Scene

TRUTH_VERSION = 1
UNSEEN = 0.005  # a visible fraction below this shows nothing that survives 8 bits and a codec
_RETURNED = 0.5  # of a frame's side: a camera so near to where it began shows half of the first view again
_CHART_INSET_PX = 0.5  # patch borders are blurred


@dataclass(frozen=True)
class TruthObject:
    """One object of a video; `visible` is the fraction in sight, in [0, 1], and its place is true also where hidden."""

    id: int
    shape: str
    colour: str
    role: str  # see scenes.Track
    radius_px: float
    x: Float[np.ndarray, " t"]
    y: Float[np.ndarray, " t"]
    visible: Float[np.ndarray, " t"]


@dataclass(frozen=True)
class HiddenSpan:
    """An object was seen, is out of sight from `first_hidden`, and seen again from `first_seen`."""

    object_id: int
    first_hidden: int
    first_seen: int


@dataclass(frozen=True)
class Truth:
    """Everything the scores may know about a rendered video.

    Args:
        camera: the window's offset on the canvas, pixels.
        hidden_spans: those that end inside the video, of targets and landmarks.
        witness_frames: so many true frames from the start show all there is to remember and end just out of its sight;
            0 if nothing hides.
        revisit_spans: when the camera is back, from where half of the first view is seen again.
        chart_boxes: left, top, right, bottom of each grey patch, whole pixels inside it.
    """

    name: str
    family: str
    caption: str
    fps: int
    size_px: int
    num_frames: int
    objects: tuple[TruthObject, ...]
    camera: Float[np.ndarray, "t 2"]
    hidden_spans: tuple[HiddenSpan, ...]
    witness_frames: int
    revisit_spans: tuple[tuple[int, int], ...]
    chart_boxes: tuple[tuple[int, int, int, int], ...]


def build_truth(name: str, scene: Scene, visible: Float[np.ndarray, "t tracks"], size_px: int) -> Truth:
    """The truth of a scene rendered at `size_px`; `visible` as the renderer measured it."""
    objects = tuple(
        TruthObject(
            id=index,
            shape=track.shape,
            colour=track.colour,
            role=track.role,
            radius_px=OBJECT_RADIUS * size_px,
            x=track.x * size_px,
            y=track.y * size_px,
            visible=visible[:, index],
        )
        for index, track in enumerate(scene.tracks)
    )
    away = np.abs(scene.camera - scene.camera[0]).max(1)
    return Truth(
        name=name,
        family=scene.family,
        caption=scene.caption,
        fps=scene.fps,
        size_px=size_px,
        num_frames=scene.num_frames,
        objects=objects,
        camera=scene.camera * size_px,
        hidden_spans=tuple(span for thing in objects for span in _hidden_spans(thing)),
        witness_frames=_witness_frames(objects, away),
        revisit_spans=_revisit_spans(away),
        chart_boxes=tuple(
            (
                int(np.ceil(patch.left * size_px + _CHART_INSET_PX)),
                int(np.ceil(patch.top * size_px + _CHART_INSET_PX)),
                int(np.floor(patch.right * size_px - _CHART_INSET_PX)),
                int(np.floor(patch.bottom * size_px - _CHART_INSET_PX)),
            )
            for patch in scene.backdrop.patches
        ),
    )


def save_truth(truth: Truth, path: Path) -> None:
    """Write a truth file, whole or not at all."""
    spans = [[span.object_id, span.first_hidden, span.first_seen] for span in truth.hidden_spans]
    record = {
        "version": TRUTH_VERSION,
        "name": truth.name,
        "family": truth.family,
        "caption": truth.caption,
        "fps": truth.fps,
        "size_px": truth.size_px,
        "num_frames": truth.num_frames,
        "objects": [
            {
                "id": thing.id,
                "shape": thing.shape,
                "colour": thing.colour,
                "role": thing.role,
                "radius_px": thing.radius_px,
                "x": thing.x.round(3).tolist(),
                "y": thing.y.round(3).tolist(),
                "visible": thing.visible.round(4).tolist(),
            }
            for thing in truth.objects
        ],
        "camera": {"x": truth.camera[:, 0].round(4).tolist(), "y": truth.camera[:, 1].round(4).tolist()},
        "hidden_spans": spans,
        "witness_frames": truth.witness_frames,
        "revisit_spans": [list(span) for span in truth.revisit_spans],
        "chart_boxes": [list(box) for box in truth.chart_boxes],
    }
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(record), encoding="utf-8")


def load_truth(path: Path) -> Truth:
    """Read a truth file.

    Raises:
        UserError: the file is missing, is not JSON, has another version, lacks a key, or its lists do not fit together.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: no truth file can be read here ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error}); render the world again") from error
    if not isinstance(record, dict) or record.get("version") != TRUTH_VERSION:
        raise UserError(f"{path}: not a truth file of version {TRUTH_VERSION}; render the world again")
    try:
        return _parse(record)
    except KeyError as error:
        raise UserError(f"{path}: the key {error} is missing; render the world again") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}; render the world again") from error


def _parse(record: dict[str, Any]) -> Truth:
    num_frames = int(record["num_frames"])
    objects = tuple(
        TruthObject(
            id=int(thing["id"]),
            shape=_one_of(thing["shape"], SHAPES),
            colour=_one_of(thing["colour"], tuple(PALETTE)),
            role=str(thing["role"]),
            radius_px=float(thing["radius_px"]),
            x=_numbers(thing["x"], num_frames),
            y=_numbers(thing["y"], num_frames),
            visible=_numbers(thing["visible"], num_frames),
        )
        for thing in record["objects"]
    )
    camera = record["camera"]
    return Truth(
        name=str(record["name"]),
        family=str(record["family"]),
        caption=str(record["caption"]),
        fps=int(record["fps"]),
        size_px=int(record["size_px"]),
        num_frames=num_frames,
        objects=objects,
        camera=np.stack([_numbers(camera["x"], num_frames), _numbers(camera["y"], num_frames)], 1),
        hidden_spans=tuple(HiddenSpan(*(int(number) for number in span)) for span in record["hidden_spans"]),
        witness_frames=int(record["witness_frames"]),
        revisit_spans=tuple((int(start), int(stop)) for start, stop in record["revisit_spans"]),
        chart_boxes=tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in record["chart_boxes"]),
    )


def _numbers(values: list[float], num_frames: int) -> Float[np.ndarray, " t"]:
    if len(values) != num_frames:
        raise ValueError(f"a list has {len(values)} values for {num_frames} frames")
    return np.asarray(values, np.float64)


def _one_of(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise ValueError(f"{name!r} is none of {', '.join(names)}")
    return name


def _hidden_spans(thing: TruthObject) -> list[HiddenSpan]:
    if thing.role not in ("target", "landmark"):
        return []
    seen = thing.visible >= UNSEEN
    return [
        HiddenSpan(thing.id, start, stop) for start, stop in _runs(~seen) if seen[:start].any() and stop < len(seen)
    ]


def _witness_frames(objects: tuple[TruthObject, ...], away: Float[np.ndarray, " t"]) -> int:
    if away.max() > 0:
        return int(np.argmax(away)) + 1
    hidden = [_runs(thing.visible < UNSEEN) for thing in objects if thing.role == "target"]
    seen_before = [[start + 1 for start, _ in spans if start > 0] for spans in hidden]
    return max((starts[0] for starts in seen_before if starts), default=0)


def _revisit_spans(away: Float[np.ndarray, " t"]) -> tuple[tuple[int, int], ...]:
    return tuple((start, stop) for start, stop in _runs(away <= _RETURNED) if start > 0)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Spans where the mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
