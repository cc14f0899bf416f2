"""Writes videos: H.264 in mp4, the same bytes for the same frames."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from mpgen.errors import UserError
from mpgen.video.upright import SCALING


class VideoWriter:
    """Writes 8-bit RGB frames as H.264 (yuv420p, bt709) into an mp4; a context manager.

    Args:
        path: where the file goes; its folder is made if missing.
        fps: frames per second.
        height_px: even.
        width_px: even.
        crf: x264 quality, 0 (lossless) to 51; 16 cannot be told from the source by eye.
        metadata: keys and values to keep in the file, see `read_metadata`.
        atomic: write under another name and rename after a clean exit, so that the file is whole or absent. Otherwise
            write the file in place in short fragments: whatever ends the process, what was written so far can be
            played.

    Raises:
        UserError: an odd size, or a place that cannot be written to.
    """

    def __init__(
        self,
        path: Path | str,
        fps: float | int,
        height_px: int,
        width_px: int,
        crf: int = 16,
        metadata: dict[str, str] | None = None,
        atomic: bool = True,
    ) -> None:
        if height_px % 2 or width_px % 2:
            raise UserError(f"{path}: H.264 needs an even width and height, got {width_px}x{height_px}")
        self.path = Path(path)
        self.fps, self.height_px, self.width_px, self.crf = fps, height_px, width_px, crf
        self.metadata = {} if metadata is None else metadata
        self.atomic = atomic
        self.num_frames = 0
        # not of the name, which may be as long as names can be
        self._target = self.path.with_name(f".{secrets.token_hex(8)}.tmp.mp4") if atomic else self.path
        self._reformatter = VideoReformatter()
        self._container: OutputContainer
        self._stream: VideoStream

    def __enter__(self) -> "VideoWriter":
        flags = "faststart" if self.atomic else "frag_keyframe+empty_moov+default_base_moof"
        options = {"movflags": f"{flags}+use_metadata_tags", "flush_packets": "1"}
        with self._writing():
            if self.path.is_dir():
                raise UserError(f"{self.path}: is a folder, wanted the name of a video")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # an absolute path cannot be taken for a protocol, as `pipe:1.mp4` would be
            self._container = av.open(os.path.abspath(self._target), "w", format="mp4", options=options)
        self._container.metadata.update(self.metadata)
        rate = Fraction(self.fps).limit_denominator(1001)  # 23.976 is 24000/1001
        stream = self._container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = self.height_px, self.width_px, "yuv420p"
        stream.options = {"crf": str(self.crf), "preset": "veryfast", "threads": "1"}
        # the macroblock tree decides anew in every run where the processor has AVX-512: 30 writes of 24 scenes in one
        # process differed for 6 of them; without it 60 writes of each were equal, and files are up to twice as large
        stream.options |= {"x264-params": "no-mbtree=1"}
        if not self.atomic:
            stream.options |= {"tune": "zerolatency"}  # no frame waits in the encoder when the process dies
            stream.codec_context.gop_size = max(1, round(self.fps / 2))
        codec = stream.codec_context
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream
        return self

    def write(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Appends one frame of the size given at the start."""
        assert frame.shape == (self.height_px, self.width_px, 3), (
            f"{frame.shape} is not {self.height_px}x{self.width_px}x3"
        )
        picture = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            dst_color_primaries=ColorPrimaries.BT709,
            dst_color_trc=ColorTrc.BT709,
            interpolation=SCALING,
            threads=1,
        )
        picture.pts = self.num_frames
        picture.time_base = 1 / Fraction(self._stream.codec_context.rate)
        with self._writing():
            self._container.mux(self._stream.encode(picture))
        self.num_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clean = kind is None and self.num_frames > 0
        try:
            with self._writing():
                if (clean or not self.atomic) and self.num_frames > 0:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
                if self.atomic and clean:
                    os.replace(self._target, self.path)
        finally:
            if self.atomic:
                self._target.unlink(missing_ok=True)
        assert clean or kind is not None, f"{self.path}: no frame was written"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A disk that is full, or a name that cannot be, is the user's to mend."""
        try:
            yield
        except UserError:
            raise
        except (av.error.FFmpegError, OSError, UnicodeEncodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "its name is not valid Unicode"
            raise UserError(f"{self.path}: cannot be written: {said}") from error
