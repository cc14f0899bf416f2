"""A video made here gives its settings to another, and can be made anew from one of its sections on."""

import json

import numpy as np
import pytest

from mpgen.cli import COMMANDS
from mpgen.errors import UserError
from mpgen.generation.like import expand
from mpgen.video.clips import read_video
from mpgen.video.writing import VideoWriter


def run(*words: object) -> None:
    COMMANDS["generate"].run("generate", [str(word) for word in words])


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    """Three sections of a scene, two steps each."""
    output = tmp_path_factory.mktemp("made") / "made.mp4"
    run("--ckpt_path", trained, "--scene=bounce", "--seconds=1", "--steps=2", "--seed=7", "--shift=1.5",
        "--sampler=unipc", "--output", output)  # fmt: skip
    return output


def record(path):
    return json.loads(path.with_suffix(".json").read_text())


def test_like_takes_all_settings_and_those_given_by_hand_go_before(trained, made, tmp_path):
    run("--like", made, "--ckpt_path", trained, "--output", tmp_path / "same.mp4", "--scene=bounce")
    same, first = record(tmp_path / "same.mp4"), record(made)
    for name in ("prompt", "sampling", "fps", "order", "num_sections", "checkpoint"):
        assert same[name] == first[name]
    assert np.array_equal(read_video(tmp_path / "same.mp4"), read_video(made))
    words = expand(["--seed=8", f"--like={made}", "--image=a.png", "--steps", "3"])
    assert [word for word in words if word.startswith(("--seed", "--steps", "--like"))] == ["--seed=8", "--steps"]
    assert {"--seconds=1.0", "--shift=1.5", "--sampler=unipc", "--height_px=32", "--width_px=32"} <= {*words}


def test_without_a_start_it_is_the_videos_own(trained, made, tmp_path):
    run("--like", made, "--ckpt_path", trained, "--seed=8", "--prompt=another", "--output", tmp_path / "other.mp4")
    other, first = read_video(tmp_path / "other.mp4").astype(int), read_video(made)
    assert other.shape == first.shape
    assert np.abs(other[0] - first[0]).mean() < 6
    assert record(tmp_path / "other.mp4")["prompt"] == "another"
    assert record(tmp_path / "other.mp4")["context_frames"] == 1


def test_a_branch_keeps_the_sections_before_and_is_as_long(trained, made, tmp_path):
    run("--branch", made, "--section", 3, "--ckpt_path", trained, "--seed=8", "--output", tmp_path / "branch.mp4")
    branch, first = read_video(tmp_path / "branch.mp4").astype(int), read_video(made)
    assert branch.shape == first.shape == (25, 32, 32, 3)
    kept = np.abs(branch[:17] - first[:17]).mean()
    assert kept < 6
    said = record(tmp_path / "branch.mp4")
    assert (said["context_frames"], said["num_sections"], said["seed"]) == (17, 1, 8)
    assert said["sampling"] | {"seed": 7} == record(made)["sampling"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--section=4"], r"--section 4: .*made\.mp4 has 3: wanted one of these"),
        (["--section=0"], r"--section 0: wanted 1 or more"),
        (["--section=2", "--fps=12"], r"--fps 12: .*made\.mp4 has 24 frames a second"),
        (["--section=2", "--order=f0"], r"--branch with --order f0"),
        ([], r"--branch: wanted --section with it"),
    ],
)
def test_a_branch_that_cannot_be_made_is_one_line(trained, made, tmp_path, words, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        run("--branch", made, "--ckpt_path", trained, "--output", tmp_path / "out.mp4", *words)
    assert "\n" not in str(error.value)


SAMPLING = {"sampler": "euler", "steps": 2, "shift": 1.0, "guidance_scale": 1.0, "seed": 0, "negative_prompt": ""}
CARD = {"prompt": "x", "fps": 24.0, "order": "f1", "num_sections": 1, "section_frames": 8, "context_frames": 1}


@pytest.fixture
def write(tmp_path):
    """A video that says this of itself."""

    def write(comment: str):
        path = tmp_path / "said.mp4"
        with VideoWriter(path, 24, 32, 32, metadata={"comment": comment}) as writer:
            for _ in range(3):
                writer.write(np.zeros((32, 32, 3), np.uint8))
        return path

    return write


@pytest.mark.parametrize(
    ("card", "sampling", "complaint"),
    [
        ({}, {"steps": "__import__('os')"}, r"says steps \"__import__\('os'\)\" of itself: wanted a number of steps"),
        ({}, {"steps": 10**9}, "says steps 1000000000"),
        ({}, {"seed": True}, "says seed True of itself"),
        ({}, {"shift": float("nan")}, "says shift nan of itself"),
        ({}, {"sampler": ["euler"]}, "wanted a sampler"),
        ({}, {"guidance_scale": None}, "says guidance_scale None"),
        ({"fps": 0}, {}, "says fps 0 of itself"),
        ({"order": "f2"}, {}, "wanted f1 or f0"),
        ({"prompt": "x" * 200_000}, {}, "wanted a text"),
        ({"num_sections": -1}, {}, "wanted a number of sections"),
        ({"prompts": {"seconds": [0], "texts": ["x"]}}, {}, "made with texts that changed: wanted --prompt"),
    ],
)
def test_hostile_metadata_is_one_line(write, card, sampling, complaint):
    path = write(json.dumps(CARD | card | {"sampling": SAMPLING | sampling}))
    with pytest.raises(UserError, match=complaint) as error:
        expand(["--like", str(path), "--image=a.png"])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("comment", ["", "not JSON", "[1]", "{}", '{"sampling": 3}', "[" * 100_000])
def test_a_video_that_does_not_say_how_it_was_made_is_refused(write, comment):
    with pytest.raises(UserError, match="does not say how it was made: wanted a video that mpgen generate wrote"):
        expand(["--like", str(write(comment))])


def test_no_path_in_a_video_is_followed_and_no_text_becomes_an_option(write):
    card = CARD | {"prompt": "--ckpt_path=/evil", "checkpoint": {"path": "/evil"}, "sampling": SAMPLING}
    words = expand([f"--like={write(json.dumps(card))}", "--image=a.png"])
    assert [word for word in words if "/evil" in word] == ["--prompt=--ckpt_path=/evil"]


def test_a_branch_of_a_video_that_ends_before_it_is_refused(trained, write, tmp_path):
    path = write(json.dumps(CARD | {"num_sections": 3, "sampling": SAMPLING}))  # three frames
    with pytest.raises(UserError, match=r"--section 2: .* ends after 3 frames: wanted 9 before it"):
        run("--branch", path, "--section=2", "--ckpt_path", trained, "--output", tmp_path / "out.mp4")


def test_words_without_them_are_left_as_they_are():
    assert expand(["--image", "a.png", "--seed=1"]) == ["--image", "a.png", "--seed=1"]
    assert expand(["--help"]) == ["--help"]
    with pytest.raises(UserError, match="--like: wanted a video after it"):
        expand(["--like"])
    with pytest.raises(UserError, match=r"--like nowhere\.mp4 does not exist"):
        expand(["--like", "nowhere.mp4"])
