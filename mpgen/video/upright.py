"""Pictures as a player shows them: turned, mirrored, with square pixels, in 8-bit RGB."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from mpgen.video.errors import VideoError
from mpgen.video.opening import MAX_PIXELS

MAX_UPSCALE = 1.5
# with accurate rounding a conversion to planes is an exact one, rounded; without, it is darker by 1 to 1.5 levels
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
SHRINKING = Interpolation.AREA | Interpolation.ACCURATE_RND  # a fifth cheaper, 1.3 levels from the above

Plane = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes the one that is shown: first mirrored left to right, then turned.

    Args:
        quarter_turns: counterclockwise, 0 to 3.
        mirrored: as the cameras on the front of phones do.
    """

    quarter_turns: int = 0
    mirrored: bool = False

    @classmethod
    def of(cls, picture: VideoFrame) -> "Orientation":
        """What the frame's display matrix asks for, to the nearest quarter turn."""
        matrix = picture.side_data.get("DISPLAYMATRIX")
        if matrix is None or len(bytes(matrix)) < 36:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix)[:36])  # (x, y) is shown at (a x + c y, b x + d y)
        mirrored = a * d - b * c < 0
        turn = math.atan2(b, -a) if mirrored else math.atan2(-b, a)
        return cls(round(turn / (math.pi / 2)) % 4, mirrored)

    @property
    def sideways(self) -> bool:
        """Whether height and width are exchanged."""
        return self.quarter_turns % 2 == 1

    def apply(self, plane: Plane) -> UInt8[np.ndarray, "shown_h shown_w"]:
        """The plane as shown; a view, nothing is copied."""
        return np.rot90(plane[:, ::-1] if self.mirrored else plane, self.quarter_turns)


def shown_size(picture: VideoFrame, stream: VideoStream) -> tuple[float, float]:
    """Height and width as a player shows them: upright, with square pixels."""
    height, width = float(picture.height), picture.width * float(stream.sample_aspect_ratio or 1)
    return (width, height) if Orientation.of(picture).sideways else (height, width)


def misfit(size: tuple[float, float], height_px: int, width_px: int) -> tuple[str, str] | None:
    """Why pictures of a size cannot be scaled to cover another: reason and detail; None if they can."""
    height, width = size
    if height > width and height_px < width_px:
        return "portrait", f"is {width:.0f}x{height:.0f}, taller than wide, wanted {width_px}x{height_px}"
    if max(height_px / height, width_px / width) > MAX_UPSCALE:
        return "low_resolution", f"is {width:.0f}x{height:.0f}, too small for {width_px}x{height_px}"
    return None


def fit_into(
    out: UInt8[np.ndarray, "3 h w"],
    path: Path,
    reformatter: VideoReformatter,
    picture: VideoFrame,
    stream: VideoStream,
) -> None:
    """Writes the picture upright, with square pixels, scaled to cover the size of `out` and cropped at the centre."""
    height_px, width_px = out.shape[1:]
    size = shown_size(picture, stream)
    wrong = misfit(size, height_px, width_px)
    if wrong is not None:
        raise VideoError(path, *wrong)
    scale = max(height_px / size[0], width_px / size[1])
    height, width = round(size[0] * scale), round(size[1] * scale)
    interpolation = SHRINKING if scale < 1 else SCALING
    top, left = (height - height_px) // 2, (width - width_px) // 2
    planes = _upright_planes(path, reformatter, picture, height, width, interpolation)
    for channel, plane in zip(out, planes, strict=True):
        channel[:] = plane[top : top + height_px, left : left + width_px]


def upright_rgb(
    path: Path,
    reformatter: VideoReformatter,
    picture: VideoFrame,
    height_px: int,
    width_px: int,
    interpolation: int = SCALING,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture upright, in 8-bit RGB of a size, by its own colour space; what is transparent lies on black."""
    return np.stack(_upright_planes(path, reformatter, picture, height_px, width_px, interpolation), -1)


def has_alpha(picture: VideoFrame) -> bool:
    return any(component.is_alpha for component in picture.format.components)


def _upright_planes(
    path: Path, reformatter: VideoReformatter, picture: VideoFrame, height_px: int, width_px: int, interpolation: int
) -> list[Plane]:
    orientation = Orientation.of(picture)
    stored = (width_px, height_px) if orientation.sideways else (height_px, width_px)
    return [orientation.apply(plane) for plane in _to_planes(path, reformatter, picture, *stored, interpolation)]


def _to_planes(
    path: Path, reformatter: VideoReformatter, picture: VideoFrame, height_px: int, width_px: int, interpolation: int
) -> list[Plane]:
    """Red, green and blue, in FFmpeg's memory: converting to planes costs half of converting to pixels."""
    if not 0 < height_px * width_px <= MAX_PIXELS:  # pixels that are a million times as wide as high, say
        raise VideoError(path, "too_large", f"is shown as {width_px}x{height_px}, at most {MAX_PIXELS:,} pixels")
    wanted = "gbrap" if has_alpha(picture) else "gbrp"
    try:
        converted = reformatter.reformat(
            picture, width=width_px, height=height_px, format=wanted, interpolation=interpolation, threads=1
        )
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(path, "corrupt_stream", f"has a picture that cannot be converted: {error}") from error
    green, blue, red, *opacity = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in converted.planes
    )
    rgb = [red, green, blue]
    return [((plane * opacity[0].astype(np.uint16) + 127) // 255).astype(np.uint8) for plane in rgb] if opacity else rgb
