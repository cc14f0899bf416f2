"""What users hand in is kept under names of our own, or is a line."""

import json

import numpy as np
import pytest
from PIL import Image

from mpgen.errors import UserError
from mpgen.studio.intake import settings_of, take_in
from mpgen.video.writing import VideoWriter

SAMPLING = {"sampler": "euler", "steps": 2, "shift": 1.0, "guidance_scale": 1.0, "seed": 3, "negative_prompt": ""}
CARD = {"prompt": "x", "fps": 24.0, "order": "f1", "num_sections": 3, "section_frames": 8, "context_frames": 1}


@pytest.fixture
def write(tmp_path):
    def write(comment: str, name: str = "said.mp4"):
        with VideoWriter(tmp_path / name, 24, 32, 32, metadata={"comment": comment}) as writer:
            for _ in range(3):
                writer.write(np.zeros((32, 32, 3), np.uint8))
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["..png.png", "a b;$(rm).PNG", "<img src=x onerror=alert(1)>.png", "-rf.png"])
def test_no_name_of_a_file_is_kept(tmp_path, name):
    given = tmp_path / name.replace("/", "_")
    Image.new("RGB", (8, 8)).save(given, "png")
    kept = take_in(tmp_path / "studio", given, "picture")
    assert kept.startswith("inputs/")
    assert len(kept) == len("inputs/.png") + 16
    assert (tmp_path / "studio" / kept).read_bytes() == given.read_bytes()


@pytest.mark.parametrize(
    ("name", "what", "complaint"),
    [
        (None, "picture", "no picture was chosen"),
        ("text.png", "picture", "the picture that was chosen cannot be read as a picture"),
        ("text.exe", "picture", r"a picture called \.\.\.\.exe: wanted one of \.png"),
        ("text.mp4", "video", "that was chosen: cannot be opened as a video"),
    ],
)
def test_what_is_no_picture_and_no_video_is_a_line_and_not_kept(tmp_path, name, what, complaint):
    for made in ("text.png", "text.exe", "text.mp4"):
        (tmp_path / made).write_text("a text")
    with pytest.raises(UserError, match=complaint) as error:
        take_in(tmp_path / "studio", None if name is None else tmp_path / name, what)
    assert str(tmp_path) not in str(error.value)
    assert not [*(tmp_path / "studio").glob("inputs/*")]


def test_settings_come_back_from_a_video(write):
    read = settings_of(write(json.dumps(CARD | {"sampling": SAMPLING})))
    assert (read.prompt, read.changed, read.seconds, read.endless) == ("x", False, 1.0, False)
    assert read.denoising == {key: SAMPLING[key] for key in ("sampler", "steps", "shift", "guidance_scale", "seed")}
    endless = CARD | {"num_sections": 24 * 60 * 60 * 3, "prompts": {}, "sampling": SAMPLING}
    assert (settings_of(write(json.dumps(endless))).endless, settings_of(write(json.dumps(endless))).prompt) == (
        True,
        "",
    )


@pytest.mark.parametrize("comment", ["", "{}", json.dumps(CARD | {"sampling": SAMPLING | {"steps": "<script>"}})])
def test_a_video_that_says_nothing_of_use_is_a_line(write, tmp_path, comment):
    with pytest.raises(UserError) as error:
        settings_of(write(comment))
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)
