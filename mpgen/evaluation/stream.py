"""One decode of a video, in chunks, for all probes; memory does not grow with its length.

A thread decodes ahead while the probes work (FFmpeg and the networks both let go of Python's lock). Frames are taken as
they are stored: every one, at its own size, without rotation.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Literal

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from mpgen.evaluation.frames import Frames
from mpgen.evaluation.resize import pictures_in, room
from mpgen.evaluation.sidecar import parse_card
from mpgen.video.decoding import decode_frames
from mpgen.video.errors import VideoError
from mpgen.video.opening import open_container

Colour = Literal["tagged", "ignore"]

CHUNK_BYTES = 128 * 2**20  # a chunk of huge frames is shorter, so that it still fits
_AHEAD = 1  # chunks that wait; one more is being decoded
_BT709 = 1  # of AVColorSpace, whose other numbers these are; what is not named is BT.601, as in FFmpeg
_MATRICES = {
    _BT709: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header says.

    Args:
        fps: frames per second.
        height_px: of a frame.
        width_px: likewise.
        num_frames: a guess, 0 if it does not say.
        tagged: whether it names a colour matrix other than BT.601.
        promised_frames: how many `mpgen generate` was going to write, which it says before the first; None if another
            program wrote the file.
    """

    fps: float
    height_px: int
    width_px: int
    num_frames: int
    tagged: bool
    promised_frames: int | None = None


def video_info(path: Path) -> VideoInfo:
    """
    Raises:
        VideoError: it cannot be opened as a video.
    """
    container, stream = open_container(path)
    with container:
        return _info(path, container, stream)


class FrameStream:
    """Iterate over it once for the chunks of a video.

    A file that breaks on the way gives the frames before the break, and `note` says so; a file without a single frame
    raises. `num_frames` counts what has been given.

    Args:
        path: any file FFmpeg reads.
        chunk_frames: at most so many frames at a time.
        colour: "tagged" converts by the colour matrix that the file names, as the readers do that VBench uses (decord
            and OpenCV); "ignore" by BT.601 whatever it names. Files that name none are the same in both.

    Raises:
        VideoError: it cannot be opened as a video, or its frames are too large.
    """

    def __init__(self, path: Path | str, chunk_frames: int = 1, colour: Colour = "tagged") -> None:
        self.path = Path(path)
        self._container, self._video = open_container(self.path)
        self.info = _info(self.path, self._container, self._video)
        frame_bytes = 3 * self.info.height_px * self.info.width_px
        self.chunk_frames = max(1, min(chunk_frames, CHUNK_BYTES // frame_bytes))
        self.colour = colour
        self.num_frames = 0
        self.note = ""

    def __iter__(self) -> Iterator[Frames]:
        chunks: Queue[tuple[Tensor, bool] | Exception] = Queue(_AHEAD)
        stop = Event()
        thread = Thread(target=self._decode_into, args=(chunks, stop), daemon=True, name=f"decode {self.path.name}")
        thread.start()
        try:
            last = False
            while not last:
                came = chunks.get()
                if isinstance(came, Exception):
                    raise came
                chunk, last = came
                first, self.num_frames = self.num_frames, self.num_frames + len(chunk)
                yield Frames(pictures_in(chunk), first, self.info.fps, last, room=chunk)
        finally:
            stop.set()
            thread.join()

    def _decode_into(self, chunks: "Queue[tuple[Tensor, bool] | Exception]", stop: Event) -> None:
        """The thread: chunks, and whether each is the last, or the error that ended them."""
        try:
            for chunk in self._chunks():
                if not _put(chunks, chunk, stop):
                    return
        except Exception as error:  # raised again in the reader's thread
            _put(chunks, error, stop)

    def _chunks(self) -> Iterator[tuple[Tensor, bool]]:
        size = (self.chunk_frames, self.info.height_px, self.info.width_px)
        chunk, filled, total = room(*size), 0, 0
        for picture in self._pictures():
            if filled == self.chunk_frames:
                yield chunk, False
                chunk, filled = room(*size), 0
            chunk[filled, : self.info.height_px] = torch.from_numpy(picture)
            filled, total = filled + 1, total + 1
        if total == 0:
            raise VideoError(self.path, "too_short", self.note or "has no frame")
        declared = self.info.num_frames
        if not self.note and total < 0.98 * declared - 1:
            self.note = f"ends after {total} of the {declared} frames that it declares"
        yield chunk[:filled], True

    def _pictures(self) -> Iterator[np.ndarray]:
        """RGB pictures up to the end or the first fault, which goes into `note`."""
        reformatter = VideoReformatter()
        total = 0
        with self._container:
            try:
                for frame in decode_frames(self.path, self._container, self._video):
                    size = (frame.height, frame.width)
                    if size != (self.info.height_px, self.info.width_px):
                        self.note = f"changes its size to {size[0]}x{size[1]} after {total} frames"
                        return
                    if frame.is_corrupt:
                        self.note = f"is damaged after {total} frames"
                        return
                    yield _to_rgb(reformatter, frame, self.colour)
                    total += 1
            except VideoError as error:
                self.note = f"after {total} frames: {error.detail}"


def _to_rgb(reformatter: VideoReformatter, frame: VideoFrame, colour: Colour) -> np.ndarray:
    tag = frame.colorspace if colour == "tagged" else None
    matrix = _MATRICES.get(tag, Colorspace.ITU601)
    return reformatter.reformat(
        frame, format="rgb24", src_colorspace=matrix, dst_colorspace=matrix, threads=1
    ).to_ndarray()


def _info(path: Path, container: InputContainer, stream: VideoStream) -> VideoInfo:
    fps = stream.average_rate or stream.guessed_rate
    height, width = stream.height, stream.width
    if not fps or fps <= 0:
        raise VideoError(path, "corrupt_open", "does not say how many frames a second it has")
    if height < 1 or width < 1:
        raise VideoError(path, "corrupt_open", "does not say how large its frames are")
    frames = stream.frames
    if not frames and stream.duration is not None:
        frames = round(float(stream.duration * stream.time_base) * fps)
    elif not frames and container.duration is not None:
        frames = round(container.duration / av.time_base * fps)
    tagged = stream.codec_context.colorspace in _MATRICES
    return VideoInfo(float(fps), height, width, frames, tagged, _promised(container))


def _promised(container: InputContainer) -> int | None:
    """`mpgen generate` writes the video's settings into its comment before the first frame."""
    try:
        card = json.loads(container.metadata.get("comment", ""))
        return parse_card(card).promised_frames if "mpgen" in card else None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None


def _put(chunks: Queue, item: object, stop: Event) -> bool:
    """Waits for room; False if nobody reads any more."""
    while not stop.is_set():
        try:
            chunks.put(item, timeout=0.1)
            return True
        except Full:
            continue
    return False
