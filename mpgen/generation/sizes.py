"""The size of a video: the model's own, FramePack's table of shapes, or any that is asked for."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from mpgen.checkpoints import LoadedModel
from mpgen.errors import UserError
from mpgen.machine import MAX_SIDE_PX
from mpgen.options import Options

BUCKET_RESOLUTION = 640
# Height and width, about 640 x 640 pixels each; from FramePack's code, its transposes follow.
_WIDE = ((416, 960), (448, 864), (480, 832), (512, 768), (544, 704), (576, 672), (608, 640))
BUCKETS = (*_WIDE, *((width, height) for height, width in reversed(_WIDE)))


def bucket_for(height: int, width: int, resolution: int = BUCKET_RESOLUTION, multiple: int = 16) -> tuple[int, int]:
    """The height and width nearest in shape to a picture; of equals the later one, as released.

    Args:
        height: of the picture.
        width: of the picture.
        resolution: 640 gives the released table; others scale it (our choice).
        multiple: both sides of a scaled size are multiples of this.

    Raises:
        UserError: when a side would vanish, or is longer than any video's.
    """
    bucket_height, bucket_width = min(reversed(BUCKETS), key=lambda bucket: abs(height * bucket[1] - width * bucket[0]))
    if resolution == BUCKET_RESOLUTION:
        return bucket_height, bucket_width
    scale = resolution / BUCKET_RESOLUTION / multiple
    scaled = round(bucket_height * scale) * multiple, round(bucket_width * scale) * multiple
    if min(scaled) < multiple or max(scaled) > MAX_SIDE_PX:
        raise UserError(
            f"--resolution {resolution} gives {scaled[1]}x{scaled[0]}: wanted sides from {multiple} to {MAX_SIDE_PX}; "
            "640 is the released one"
        )
    return scaled


class Size(Options):
    """How large the video is; `asked` says whether anybody did."""

    asked: ClassVar[bool] = True

    @abstractmethod
    def of(self, model: LoadedModel, shape: tuple[int, int], any_size: bool) -> tuple[int, int]:
        """Height and width, for those of what the video begins from.

        Args:
            model: makes it.
            shape: height and width of what it begins from.
            any_size: the model has no size of its own.
        """


@dataclass(frozen=True)
class OwnSize(Size):
    """Nothing is asked for: the size of training; of a model without one, the released size that suits the picture."""

    asked: ClassVar[bool] = False

    def of(self, model: LoadedModel, shape: tuple[int, int], any_size: bool) -> tuple[int, int]:
        return bucket_for(*shape, *model.card.get("bucket", ())) if any_size else (model.height_px, model.width_px)


@dataclass(frozen=True)
class Bucket(Size):
    """The size that is nearest in shape to what it begins from.

    Args:
        resolution: 640 is the released one, whose wide shape is 480x832, and is taken for released weights if no size
            is given.
    """

    resolution: int

    def of(self, model: LoadedModel, shape: tuple[int, int], any_size: bool) -> tuple[int, int]:
        return bucket_for(*shape, self.resolution, _multiple(model))


@dataclass(frozen=True)
class ExactSize(Size):
    """Any size; that of training if none is given.

    Args:
        height_px: of the video, with --width_px.
        width_px: likewise.
    """

    height_px: int
    width_px: int

    def __post_init__(self) -> None:
        if not (0 < self.height_px <= MAX_SIDE_PX and 0 < self.width_px <= MAX_SIDE_PX):
            raise UserError(f"{self._given}: wanted 1 to {MAX_SIDE_PX} pixels")

    def of(self, model: LoadedModel, shape: tuple[int, int], any_size: bool) -> tuple[int, int]:
        multiple = _multiple(model)
        if self.height_px % multiple or self.width_px % multiple:
            raise UserError(f"{self._given}: wanted multiples of {multiple}")
        return self.height_px, self.width_px

    @property
    def _given(self) -> str:
        return f"--height_px {self.height_px} --width_px {self.width_px}"


def _multiple(model: LoadedModel) -> int:
    """Pixels on a side of what becomes one token."""
    return model.encoders.vae.spatial_stride * model.denoiser.backbone.config.patch[1]
