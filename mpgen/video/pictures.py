"""Reads pictures as a viewer shows them: upright, 8-bit RGB, with their grey levels and without what is transparent."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from mpgen.errors import UserError
from mpgen.video.opening import MAX_PIXELS

BACKGROUND = (0, 0, 0)  # black lies under what is transparent, in videos too
_LEVELS_16 = 65535


def read_picture(path: Path, option: str) -> Image.Image:
    """An upright 8-bit RGB picture; `option` names it in errors.

    Whole numbers of 16 bits keep their levels (65535 is white), floats in [0, 1] or [0, 255] too; what is transparent
    lies on black; of an animation it is the first picture.

    Raises:
        UserError: there is no such file, it is no picture, too large, or has values that are no levels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # of metadata that nobody asked for
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise UserError(_too_large(path, option, f"is {picture.width}x{picture.height}"))
                return to_rgb(picture)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(_too_large(path, option, "is huge")) from None
    except FileNotFoundError:
        raise UserError(f"{option} {path} does not exist") from None
    except Exception as error:  # a damaged file makes the parsers of Pillow raise whatever they meet
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{option} {path} cannot be read as a picture: {said}") from error


def cover(picture: Image.Image, height_px: int, width_px: int) -> UInt8[np.ndarray, "{height_px} {width_px} 3"]:
    """The picture scaled to cover the size (Lanczos) and cropped at the centre."""
    return np.array(ImageOps.fit(picture, (width_px, height_px), Image.Resampling.LANCZOS))


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture upright, 8-bit and RGB, as `read_picture` says."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        return _from_levels(_as_levels(np.asarray(picture, np.float64)))
    if picture.mode.startswith("I"):  # 16 bits, or 32 that hold 16
        levels = np.asarray(picture, np.float64)
        if levels.min() < 0 or levels.max() > _LEVELS_16:
            raise ValueError(f"its values go from {levels.min():g} to {levels.max():g}, wanted 0 to {_LEVELS_16}")
        return _from_levels(levels * (255 / _LEVELS_16))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        under = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        return Image.alpha_composite(under, picture).convert("RGB")
    return picture.convert("RGB")


def _as_levels(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Floats as levels from 0 to 255: those up to 1 are shares of white."""
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise ValueError("its floats are not finite, or neither in 0..1 nor in 0..255")
    return values * 255 if values.max() <= 1 else values


def _from_levels(levels: Float[np.ndarray, "h w"]) -> Image.Image:
    return Image.fromarray(np.rint(levels).astype(np.uint8), "L").convert("RGB")


def _too_large(path: Path, option: str, said: str) -> str:
    return f"{option} {path} {said}, more than {MAX_PIXELS:,} pixels; scale it down"
