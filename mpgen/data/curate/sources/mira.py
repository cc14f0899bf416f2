"""MiraData (Ju et al. 2024): clips of a minute or two from YouTube and stock sites, each with six captions.

The official scripts make `raw_video/` and `clip_video/`. That of v0 cuts only the first clip of every video, so whole
videos serve as well: a row takes its cut clip if there is one, else its span of the whole video.
"""

import ast
import re
from collections.abc import Mapping

from mpgen.data.curate.sources.base import BadRow, Listing, TableSource, number
from mpgen.data.curate.sources.files import without_suffix

CAPTION_FIELDS = ("short", "dense", "main_object", "background", "style", "camera")
_V0_INDEX = re.compile(r"(\d+)_(.+)-(\d+)")  # video ids hold `_` and `-` themselves
_V1_CLIP_ID = re.compile(r"(\d+)\.(\d+)")
_CLOCK = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d)(\.\d*)?")
_TIMESTAMP_MAX = 200  # characters; nobody's table should make the parser work


class MiraV0(TableSource):
    """57,803 clips of games and city walks; the table that has `index`, `start_frame` and `fps`."""

    required = ("index", "video_id", "start_frame", "end_frame", "fps")

    def parse(self, cells: Mapping[str, str]) -> Listing:
        parts = _V0_INDEX.fullmatch(cells["index"])
        if parts is None:
            raise BadRow("bad_id", f"index is {cells['index']!r}, wanted one such as 000000008783_AJp_ANXoGoM-000114")
        fps = number(cells, "fps")
        if fps == 0:
            raise BadRow("bad_number", "fps is 0")
        download, video_id = parts[1], cells["video_id"] or parts[2]
        return Listing(
            clip_id=cells["index"],
            video_id=video_id,
            cut=(cells["index"],),
            raw=(f"{download}_{video_id}", video_id),
            # not start_timestep: that is rounded to seconds
            start_seconds=number(cells, "start_frame") / fps,
            end_seconds=number(cells, "end_frame") / fps,
            captions=_captions(cells),
        )


class MiraV1(TableSource):
    """The later tables (330K, 93K, 42K, 9K), which have `clip_id` and `timestamp`."""

    required = ("clip_id", "timestamp")

    def parse(self, cells: Mapping[str, str]) -> Listing:
        parts = _V1_CLIP_ID.fullmatch(cells["clip_id"])
        if parts is None:
            raise BadRow("bad_id", f"clip_id is {cells['clip_id']!r}, wanted one such as 12.10")
        start, end = parse_timestamp(cells["timestamp"])
        download = int(parts[1])
        # All of the path: clips may be numbered like the videos they were cut from, in folders of the same name.
        whole = f"raw_video/{download // 1000:09d}/{download:012d}"
        return Listing(
            clip_id=cells["clip_id"],
            video_id=cells.get("video_id") or parts[1],
            cut=tuple(filter(None, [without_suffix(cells.get("file_path", ""))])),
            raw=(whole,),
            start_seconds=start,
            end_seconds=end,
            captions=_captions(cells),
        )


def parse_timestamp(text: str) -> tuple[float, float]:
    """Start and end in seconds of a list such as `['00:05:24.357', '00:06:24.351']`; the fraction may be missing.

    Raises:
        BadRow: it is anything else.
    """
    wrong = BadRow("bad_timestamp", f"timestamp is {text[:80]!r}, wanted ['00:05:24.357', '00:06:24.351']")
    if len(text) > _TIMESTAMP_MAX:
        raise wrong
    try:
        times = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise wrong from error
    if not isinstance(times, (list, tuple)) or len(times) != 2:
        raise wrong
    clocks = [_CLOCK.fullmatch(time.strip()) if isinstance(time, str) else None for time in times]
    seconds = [
        3600.0 * int(clock[1]) + 60 * int(clock[2]) + int(clock[3]) + float(f"0{clock[4] or '.0'}")
        for clock in clocks
        if clock is not None
    ]
    if len(seconds) != 2:
        raise wrong
    return seconds[0], seconds[1]


def _captions(cells: Mapping[str, str]) -> dict[str, str]:
    return {field: cells.get(f"{field}_caption", "") for field in CAPTION_FIELDS}
