"""What a decoded picture is, against the same arithmetic done exactly."""

import av
import numpy as np
import pytest

from mpgen.video.clips import decode_clip, read_video
from mpgen.video.writing import VideoWriter

MATRICES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # shares of red and blue in luma


def natural(height_px: int, width_px: int) -> np.ndarray:
    """A picture whose contrast falls with frequency as in photographs."""
    rng = np.random.default_rng(4)
    frequency = np.hypot(np.fft.fftfreq(height_px)[:, None], np.fft.rfftfreq(width_px)) + 1 / width_px
    layers = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height_px, width_px))) / frequency) for _ in range(3)]
    grey, red, blue = (layer / layer.std() for layer in layers)
    picture = np.stack([grey + red / 3, grey - red / 5 - blue / 5, grey + blue / 3], -1) * 40 + (125, 115, 105)
    return picture.clip(0, 255).astype(np.uint8)


def cubic(distance: np.ndarray) -> np.ndarray:
    """FFmpeg's: Keys' kernel with a slope of -0.6."""
    x, slope = abs(distance), -0.6
    near = (slope + 2) * x**3 - (slope + 3) * x**2 + 1
    return np.where(x < 1, near, np.where(x < 2, slope * (x**3 - 5 * x**2 + 8 * x - 4), 0))


def weights(size: int, new_size: int, shift: float) -> np.ndarray:
    """Rows that make `new_size` values of `size`: means over areas where that is fewer, else bicubic."""
    step = size / new_size
    first = np.arange(new_size)[:, None] * step + shift
    beyond = np.arange(-4, size + 4)  # the picture goes on for ever as at its edge
    if step > 1:
        share = np.clip(np.minimum(first + step, beyond + 1) - np.maximum(first, beyond), 0, None) / step
    else:
        share = cubic(beyond + 0.5 - (first + step / 2))
    inside = share[:, 4:-4].copy()
    inside[:, 0] += share[:, :4].sum(1)
    inside[:, -1] += share[:, -4:].sum(1)
    return inside


def exact(path, height_px: int, width_px: int, matrix: str) -> np.ndarray:
    """The first frame at a size of its own aspect, in floating point."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
    scaled = []
    for number, plane in enumerate(picture.planes):
        stored = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        shift = 0.25 if number else 0.0  # H.264's chroma stands above the left of its two pixels
        rows, columns = weights(plane.height, height_px, 0.0), weights(plane.width, width_px, shift)
        scaled.append(rows @ stored @ columns.T)
    luma, blueness, redness = (scaled[0] - 16) / 219, (scaled[1] - 128) / 112, (scaled[2] - 128) / 112
    red_share, blue_share = MATRICES[matrix]
    red, blue = luma + (1 - red_share) * redness, luma + (1 - blue_share) * blueness
    green = (luma - red_share * red - blue_share * blue) / (1 - red_share - blue_share)
    return (np.stack([red, green, blue], -1) * 255).clip(0, 255)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("size", [(120, 160), (150, 200), (40, 53), (40, 54)], ids=["same", "larger", "odd", "smaller"])
def test_colours_and_sizes_are_those_of_exact_arithmetic(tmp_path, make_foreign_video, matrix, size):
    path, picture = tmp_path / "a.mp4", natural(120, 160)
    if matrix == "bt709":
        with VideoWriter(path, 24, *picture.shape[:2]) as writer:
            writer.write(picture)
    else:  # what a file without a tag is taken for
        make_foreign_video(path, [0], frames=picture[None])
    wanted = exact(path, *size, matrix)
    found = decode_clip(path, 24, *size, max_frames=1)[0]
    difference = found - wanted
    assert np.abs(difference.mean((0, 1))).max() < 0.05
    assert 10 * np.log10(255**2 / np.square(difference).mean()) > 55  # dB; rounding alone is 58.9
    if size == picture.shape[:2]:
        assert np.array_equal(found, read_video(path)[0])
