"""The size of a video: FramePack's table of shapes."""

from mpgen.errors import UserError

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
        UserError: when a side would vanish.
    """
    bucket_height, bucket_width = min(reversed(BUCKETS), key=lambda bucket: abs(height * bucket[1] - width * bucket[0]))
    if resolution == BUCKET_RESOLUTION:
        return bucket_height, bucket_width
    scale = resolution / BUCKET_RESOLUTION / multiple
    scaled = round(bucket_height * scale) * multiple, round(bucket_width * scale) * multiple
    if min(scaled) < multiple:
        raise UserError(f"--resolution {resolution}: wanted at least {4 * multiple}; 640 is the released one")
    return scaled
