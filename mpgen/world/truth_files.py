"""Truth on disk: a JSON file beside each video."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mpgen.atomic import replacing
from mpgen.errors import UserError
from mpgen.world.scenes import PALETTE, SHAPES
from mpgen.world.truth import HiddenSpan, Truth, TruthObject

TRUTH_VERSION = 1


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
                "id": obj.id,
                "shape": obj.shape,
                "colour": obj.colour,
                "role": obj.role,
                "radius_px": obj.radius_px,
                "x": obj.x.round(3).tolist(),
                "y": obj.y.round(3).tolist(),
                "visible": obj.visible.round(4).tolist(),
            }
            for obj in truth.objects
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
            id=int(obj["id"]),
            shape=_one_of(obj["shape"], SHAPES),
            colour=_one_of(obj["colour"], tuple(PALETTE)),
            role=str(obj["role"]),
            radius_px=float(obj["radius_px"]),
            x=_numbers(obj["x"], num_frames),
            y=_numbers(obj["y"], num_frames),
            visible=_numbers(obj["visible"], num_frames),
        )
        for obj in record["objects"]
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
