"""Copies a video's pictures without encoding them again."""

import os
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from mpgen.video.errors import VideoError
from mpgen.video.opening import open_video

_WITHOUT_SEI = "filter_units=remove_types=6"


def copy_pictures(source: Path, target: Path) -> None:
    """Copies the pictures of a video and nothing else; mp4 with its index first.

    Raises:
        VideoError: the file breaks on the way.
    """
    flags = {"movflags": "faststart", "fflags": "+bitexact", "video_track_timescale": "90000"}
    try:
        with (
            open_video(source) as (reader, stream),
            av.open(os.path.abspath(target), "w", format="mp4", options=flags) as writer,
        ):
            # PyAV looks for an encoder named as the decoder, and AV1's has another name; the bytes are copied anyway.
            out = writer.add_stream_from_template(stream, opaque=stream.codec.canonical_name == "av1")
            out.metadata.clear()
            clean = BitStreamFilterContext(_WITHOUT_SEI, stream, out) if stream.codec.canonical_name == "h264" else None
            for packet in reader.demux(stream):
                for kept in [packet] if clean is None else clean.filter(packet):
                    if kept.dts is not None:
                        kept.stream = out
                        writer.mux(kept)
    except (
        av.error.FFmpegError,
        OSError,
        ValueError,
    ) as error:  # a ValueError where the codec is unknown, or not mp4's
        raise VideoError(source, "corrupt_stream", f"cannot be copied: {error}") from error
