"""One clip as its source lists it, and the file of all of them: `DATA/index.jsonl`, one JSON object a line.

Nothing here was decoded: a clip is a promise of the table, that the files hold or not.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mpgen.atomic import replacing
from mpgen.errors import UserError


@dataclass(frozen=True)
class SourceClip:
    """A span of a video file, with what its source says of it.

    Args:
        uid: 16 hex digits that name the clip, see `mpgen.data.records.video_uid`.
        source: the name of the collection, as `mpgen data index` was told it.
        clip_id: the source's own name for the clip, text even where it looks like a number.
        path: the file, absolute or relative to the folder of the index.
        start_seconds: counted from the file's first frame; 0 in a file that holds the clip alone.
        end_seconds: exclusive; None is the file's end.
        captions: by field: "dense", "short", "main_object", "background", "style", "camera", or the source's labels.
        camera: file of the camera's path (Sekai: npz, camera to world, OpenCV axes), as `path`; None without one.
        row: line of the source's table, the header is row 1.
        video_id: the video that the clip was cut from; clips of one video never lie in two splits.
    """

    uid: str
    source: str
    clip_id: str
    path: str
    start_seconds: float
    end_seconds: float | None
    captions: dict[str, str]
    camera: str | None
    row: int
    video_id: str


def read_clips(index: Path) -> list[SourceClip]:
    """The clips of an index, in its order.

    Raises:
        UserError: there is no index, or a line of it is not a clip.
    """
    if not index.is_file():
        raise UserError(f"{index}: no such file; `mpgen data index` makes it")
    clips = []
    with index.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                clips.append(SourceClip(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise UserError(f"{index} line {number}: not a clip ({error}); run `mpgen data index` again") from error
    return clips


def write_clips(index: Path, clips: Iterable[SourceClip]) -> None:
    """Replaces the index by these clips; the same clips give the same bytes."""
    with replacing(index) as half_written, half_written.open("w", encoding="utf-8", newline="\n") as file:
        encode = json.JSONEncoder(ensure_ascii=False).encode
        file.writelines(encode(vars(clip)) + "\n" for clip in clips)  # asdict is half of an index's time
