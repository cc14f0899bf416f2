"""Laws of pictures: grey levels are kept, what is transparent is not seen, what cannot be used is one line."""

import numpy as np
import pytest
from PIL import Image

from mpgen.errors import UserError
from mpgen.video import pictures
from mpgen.video.pictures import cover, read_picture

RAMP = np.linspace(0, 1, 48)[None].repeat(32, 0)


def read(path) -> np.ndarray:
    return np.asarray(read_picture(path, "--image"))


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("16.png", (RAMP * 65535).astype(np.uint16)),
        ("16.tif", (RAMP * 65535).astype(np.uint16)),
        ("32.tif", (RAMP * 65535).astype(np.int32)),
        ("share.tif", RAMP.astype(np.float32)),
        ("levels.tif", (RAMP * 255).astype(np.float32)),
        ("8.png", (RAMP * 255).astype(np.uint8)),
    ],
)
def test_grey_levels_are_kept_whatever_the_number_of_bits(tmp_path, name, stored):
    Image.fromarray(stored).save(tmp_path / name)
    found = read(tmp_path / name)
    assert found.shape == (32, 48, 3)
    assert np.abs(found[..., 1] - RAMP * 255).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_black(tmp_path, mode):
    picture = Image.new("RGBA", (48, 32), (255, 0, 255, 0))
    picture.paste((255, 255, 255, 255), (0, 0, 24, 32))
    picture.convert(mode).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert (found[:, :24] == 255).all()
    assert (found[:, 24:] == 0).all()


def test_a_palette_with_a_transparent_colour_is_read(tmp_path):
    picture = Image.new("P", (48, 32), 1)
    picture.putpalette([255, 255, 255, 255, 0, 255])
    picture.paste(0, (0, 0, 24, 32))
    picture.save(tmp_path / "a.gif", transparency=1)
    found = read(tmp_path / "a.gif")
    assert (found[:, :24].min(), found[:, 24:].max()) == (255, 0)


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 32)).save(tmp_path / "a.jpg", exif=exif)
    assert read(tmp_path / "a.jpg").shape == (48, 32, 3)


def test_a_picture_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    Image.new("L", (48, 32)).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 48 * 32 - 1)
    with pytest.raises(UserError, match=r"--image .*a.png is 48x32, more than 1,535 pixels"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("side", [11000, 20000])
def test_a_bomb_is_refused(tmp_path, side):
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="pixels; scale it down"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("values", [[-1.0, 0.5], [0.0, np.nan], [0.0, 1e9]])
def test_floats_that_are_no_levels_are_refused(tmp_path, values):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="its floats are not finite"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 60, b"GIF89a\x01", b"II*\0"])
def test_what_is_no_picture_is_one_line(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"--image .*a.png cannot be read as a picture") as caught:
        read(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_a_picture_cut_off_is_one_line(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    for name in ("a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "a.gif"):
        Image.fromarray(noise).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:400])
        with pytest.raises(UserError, match="cannot be read as a picture"):
            read(tmp_path / name)


def test_covering_scales_and_crops_at_the_centre():
    picture = Image.new("RGB", (96, 32))
    picture.paste((255, 255, 255), (47, 0, 49, 32))
    found = cover(picture, 16, 16)
    assert found.shape == (16, 16, 3)
    assert found[8, :, 0].argmax() in (7, 8)
