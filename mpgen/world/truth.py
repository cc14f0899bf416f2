"""What is true in a rendered video: the scores read this and the frames, nothing else.

Lengths are pixels of the rendered video, times are frames. A span of frames is a pair: first, and first after it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpgen.world.scenes import Scene

UNSEEN = 0.005  # a visible fraction below this shows nothing that survives 8 bits and a codec
_RETURNED = 0.5  # of a frame's side: a camera so near to where it began shows half of the first view again
_CHART_INSET_PX = 0.5  # patch borders are blurred


@dataclass(frozen=True)
class TruthObject:
    """One object of a video; `x` and `y` are true where it is hidden too, `visible` is the share in sight, 0 to 1."""

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
            radius_px=scene.object_radius * size_px,
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
        hidden_spans=tuple(span for obj in objects for span in _hidden_spans(obj)),
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


def _hidden_spans(obj: TruthObject) -> list[HiddenSpan]:
    if obj.role not in ("target", "landmark"):
        return []
    seen = obj.visible >= UNSEEN
    return [HiddenSpan(obj.id, start, stop) for start, stop in _runs(~seen) if seen[:start].any() and stop < len(seen)]


def _witness_frames(objects: tuple[TruthObject, ...], away: Float[np.ndarray, " t"]) -> int:
    if away.max() > 0:
        return int(np.argmax(away)) + 1
    hidden = [_runs(obj.visible < UNSEEN) for obj in objects if obj.role == "target"]
    seen_before = [[start + 1 for start, _ in spans if start > 0] for spans in hidden]
    return max((starts[0] for starts in seen_before if starts), default=0)


def _revisit_spans(away: Float[np.ndarray, " t"]) -> tuple[tuple[int, int], ...]:
    return tuple((start, stop) for start, stop in _runs(away <= _RETURNED) if start > 0)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Spans where the mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
