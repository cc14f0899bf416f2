"""A wish in plain values becomes what `mpgen generate` takes, or one line."""

import csv

import numpy as np
import pytest
from PIL import Image

from mpgen.errors import UserError
from mpgen.generation.starts.base import MAX_SECONDS
from mpgen.studio.request import Request

from .conftest import scene


def test_a_request_survives_as_plain_values():
    request = scene(prompt="é <b>", later="3: a", denoising={"seed": 2**40, "steps": 3})
    assert Request.from_plain(request.plain()) == request
    assert request.options().seed == 2**40
    with pytest.raises(UserError, match="a request has no command"):
        Request.from_plain(request.plain() | {"command": "rm"})


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"source": "bounc"}, "did you mean 'bounce'"),
        ({"seconds": -1.0}, "--seconds -1: wanted more than 0"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"later": "a cat"}, "wanted seconds, a colon and the text"),
        ({"later": "soon: a cat"}, "'soon' is not a number of seconds"),
        ({"later": "4: a\n3: b"}, "wanted rising times"),
        ({"later": "4: a", "endless": True}, "say them while it runs"),
        ({"prompt": "x" * 100_001}, "prompts of 100,001 letters"),
        ({"kind": "image", "source": "none.png"}, "none.png does not exist"),
        ({"kind": "video", "source": "none.mp4"}, "none.mp4 does not exist"),
        ({"kind": "branch", "source": "none.mp4"}, "none.mp4 does not exist"),
        ({"kind": "branch", "source": "none.mp4", "section": 0}, "--section 0: wanted 1 or more"),
    ],
)
def test_what_cannot_be_made_is_one_line(tmp_path, fields, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        scene(**fields).start(tmp_path, tmp_path / "later.csv")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [{"steps": 0}, {"seed": -1}, {"sampler": "eular"}, {"os": 1}, {"shift": 0.0}])
def test_how_it_cannot_be_denoised_is_one_line(given):
    with pytest.raises(UserError):
        scene(denoising=given).options()


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_texts_that_change_follow_the_first_one(tmp_path):
    words = " ".join(["word"] * 10_000)
    start = scene(prompt="first", later=f"2.5: a cat, asleep: dreams\n\n 7 :{words}").start(
        tmp_path, tmp_path / "a.csv"
    )
    rows = rows_of(tmp_path / "a.csv")
    assert rows == [["seconds", "prompt"], ["0", "first"], ["2.5", "a cat, asleep: dreams"], ["7", words]]
    assert start.prompts == tmp_path / "a.csv"
    scene(prompt="first", later="0: other\n2: b").start(tmp_path, tmp_path / "b.csv")
    assert [row[0] for row in rows_of(tmp_path / "b.csv")] == ["seconds", "0", "2"]
    assert scene(endless=True).start(tmp_path, tmp_path / "c.csv").seconds == MAX_SECONDS


def pictures() -> dict[str, Image.Image]:
    levels = np.linspace(0, 65535, 48 * 40).reshape(40, 48)
    small = Image.fromarray((levels / 257).astype(np.uint8))
    alpha = Image.merge("RGBA", [small] * 4)
    return {
        "cmyk.jpg": small.convert("CMYK"),
        "deep.png": Image.fromarray(levels.astype(np.uint16)),
        "palette.png": small.convert("RGB").quantize(7),
        "animated.gif": small.convert("P"),
        "alpha.png": alpha,
        "turned.jpg": small.convert("RGB"),
    }


@pytest.mark.parametrize("name", [*pictures()])
def test_every_kind_of_picture_can_be_a_start(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"turned.jpg": {"exif": exif}, "animated.gif": {"save_all": True, "append_images": [pictures()[name]]}}
    pictures()[name].save(tmp_path / name, **more.get(name, {}))
    Request("image", name).start(tmp_path, tmp_path / "later.csv")
