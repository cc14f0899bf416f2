"""One decode of a clip for everything that is to be known of it; what is damaged is used up to the damage."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from mpgen.data.curate.scores import FPS, HEIGHT_PX, WIDTH_PX, ClipScores, FrameScorer, Span
from mpgen.video.clock import MIN_DECODED, TimedFrame, declared_seconds, require_rate, resample, timed_frames
from mpgen.video.errors import VideoError
from mpgen.video.opening import open_video
from mpgen.video.upright import has_alpha, shown_size, upright_rgb


def survey_clip(
    path: Path, start_seconds: float | int, end_seconds: float | int | None, scorers: Sequence[FrameScorer]
) -> ClipScores:
    """Shows a clip to `scorers`, small and at `FPS`, and puts together what they found.

    Pictures are squeezed to the size whole, so that borders are seen too.

    Args:
        path: any file FFmpeg reads.
        start_seconds: counted from the first frame.
        end_seconds: exclusive; None is the file's end.
        scorers: each is used for this clip only.

    Raises:
        VideoError: nothing of it can be used: reason `missing`, `corrupt_open`, `no_video_stream`, `too_large`,
            `low_fps`, `corrupt_stream`, `too_short`.
    """
    reformatter = VideoReformatter()
    wanted = None if end_seconds is None else max(1, round((end_seconds - start_seconds) * FPS))
    gaps: list[Span] = []
    flags: set[str] = set()
    num_frames, detail = 0, ""
    size, shown, small = (0.0, 0.0), None, None
    with open_video(path) as (container, stream):
        rate = require_rate(path, stream, FPS)
        timed = _noting_gaps(timed_frames(path, container, stream, start_seconds), start_seconds, gaps)
        try:
            for frame in islice(resample(timed, FPS, start_seconds, same_rate=False), wanted):
                picture = frame.picture
                if small is None:
                    size = shown_size(picture, stream)
                    flags.update(_traits(picture, stream))
                if frame is not shown:  # a slow source shows a frame twice
                    small = upright_rgb(path, reformatter, picture, HEIGHT_PX, WIDTH_PX, Interpolation.AREA)
                shown = frame
                if frame.mended:
                    flags.add("clock")
                for scorer in scorers:
                    scorer.see(num_frames, small)
                num_frames += 1
        except VideoError as error:
            if num_frames == 0:
                raise
            flags.add(error.reason)
            detail = error.detail
        declared = declared_seconds(container, stream)
    if num_frames == 0:
        raise VideoError(path, "too_short", f"has no frame at {start_seconds:g} s")
    in_file = None if declared is None else round((declared - start_seconds) * FPS)
    promised = min((count for count in (in_file, wanted) if count is not None), default=0)
    if not detail and num_frames + 1 < MIN_DECODED * promised:
        flags.add("corrupt_stream")
        detail = f"gives {num_frames} of {promised} frames"
    if not detail and wanted is not None and num_frames + 1 < MIN_DECODED * wanted:
        flags.add("shorter_than_listed")
    return ClipScores(
        num_frames=num_frames,
        height_px=round(size[0]),
        width_px=round(size[1]),
        source_fps=round(rate, 3),
        flags=tuple(sorted(flags)),
        detail=detail,
        gaps=tuple((first, min(end, num_frames)) for first, end in gaps if first < num_frames),
        **{name: value for scorer in scorers for name, value in scorer.found().items()},
    )


def _traits(picture: VideoFrame, stream: VideoStream) -> Iterator[str]:
    if picture.interlaced_frame:
        yield "interlaced"
    if has_alpha(picture) or stream.metadata.get("alpha_mode") == "1":  # VP8 and VP9 lose it in the decoder
        yield "alpha"


def _noting_gaps(timed: Iterator[TimedFrame], start_seconds: float | int, gaps: list[Span]) -> Iterator[TimedFrame]:
    for frame in timed:
        if frame.follows_gap and frame.previous is not None and frame.seconds > start_seconds:
            first = max(0, math.floor((frame.previous - start_seconds) * FPS + 1e-6) + 1)
            gaps.append((first, math.ceil((frame.seconds - start_seconds) * FPS - 1e-6)))
        yield frame
