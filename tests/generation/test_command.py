import json

import numpy as np
import pytest
from PIL import Image

from mpgen.data.video import read_video
from mpgen.data.world.settings import WorldSettings
from mpgen.data.world.truth import load_truth
from mpgen.data.world.writer import render_world
from mpgen.errors import UserError
from mpgen.generation import command
from mpgen.generation.command import generate


@pytest.fixture
def picture(tmp_path, scene_frames):
    Image.fromarray(scene_frames[0]).resize((50, 40)).save(tmp_path / "start.png")
    return tmp_path / "start.png"


def test_an_image_and_a_prompt_become_a_video_of_whole_sections(trained, tmp_path, picture, capsys):
    output = tmp_path / "out.mp4"
    generate(trained, output, image=picture, prompt="a red disc", seconds=0.5, steps=1)
    assert read_video(output).shape == (17, 32, 32, 3)  # 12 frames are one section and a half
    assert json.loads(output.with_suffix(".json").read_text())["prompt"] == "a red disc"
    assert f"{output}: 17 frames, 0.7 s" in capsys.readouterr().out


def test_a_scene_brings_its_first_frame_and_its_caption(trained, tmp_path):
    first, again, other = (tmp_path / f"{name}.mp4" for name in ("first", "again", "other"))
    for output, seed in ((first, 1), (again, 1), (other, 2)):
        generate(trained, output, scene="bounce", seconds=0.1, steps=1, seed=seed)
    assert np.array_equal(read_video(first), read_video(again))
    assert np.abs(read_video(first)[0].astype(int) - read_video(other)[0]).mean() > 3
    assert json.loads(first.with_suffix(".json").read_text())["prompt"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("suite")
    families = {"occlude": 1.0, "steady": 1.0}
    render_world(WorldSettings(32, 24, 0, 4, (65,), families=families, hidden_seconds=(0.2, 0.3)), root, processes=1)
    return root


def test_all_held_out_videos_of_a_world_are_made_and_none_twice(trained, tmp_path, world, monkeypatch):
    generate(trained, tmp_path / "made", world=world, seconds=0.1, steps=1, num_videos=3)
    names = [f"val_0000{n}_{family}.mp4" for n, family in enumerate(("occlude", "steady", "occlude"))]
    assert sorted(path.name for path in (tmp_path / "made").glob("*.mp4")) == names
    made, generate_video = [], command.generate_video
    monkeypatch.setattr(command, "generate_video", lambda *given: made.append(given[1]) or generate_video(*given))
    (tmp_path / "made" / names[1]).unlink()
    generate(trained, tmp_path / "made", world=world, seconds=0.1, steps=1, num_videos=3)
    assert [job.output.name for job in made] == [names[1]]


def test_witnesses_see_all_until_the_object_has_hidden(trained, tmp_path, world):
    generate(trained, tmp_path / "made", world=world, context="witness", seconds=0.1, steps=1)
    made = sorted((tmp_path / "made").glob("*.mp4"))
    witnessed = [path.stem for path in sorted((world / "truth").iterdir()) if load_truth(path).witness_frames]
    assert [path.stem for path in made] == witnessed != []
    for path in made:
        record, truth = json.loads(path.with_suffix(".json").read_text()), read_video(world / "videos" / path.name)
        known = record["context_frames"]
        witness = load_truth(world / "truth" / f"{path.stem}.json").witness_frames
        assert known % 8 == 1
        assert witness <= known < witness + 8
        assert np.abs(read_video(path)[:known].astype(int) - truth[:known]).mean() < 6


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "given nothing to start from"),
        ({"scene": "bounce", "image": "start.png"}, "given --image and --scene"),
        ({"scene": "bounce", "seconds": 0.0}, "--seconds 0.0"),
        ({"scene": "bounce", "steps": 0}, "--steps 0"),
        ({"scene": "bounce", "num_videos": 0}, "--num_videos 0"),
        ({"scene": "bounce", "output": "out.avi"}, r"out\.avi: wanted a name that ends in \.mp4"),
        ({"image": "none.png"}, r"none\.png does not exist"),
        ({"image": "text.png"}, r"text\.png cannot be read as a picture"),
        ({"scene": "bounce", "ckpt_path": "none.ckpt"}, r"none\.ckpt does not exist"),
        ({"scene": "bounce", "device": "gpu"}, "--device gpu"),
        ({"scene": "bounce", "output": "there.mp4"}, r"there\.mp4 exists.*--overwrite"),
    ],
)
def test_what_cannot_be_made_is_one_line_that_says_why(trained, tmp_path, picture, options, complaint):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "there.mp4").write_text("precious")
    given = {"ckpt_path": trained, "output": tmp_path / "out.mp4", "steps": 1, "seconds": 0.1}
    given |= {n: tmp_path / v if n in ("image", "output", "ckpt_path") else v for n, v in options.items()}
    with pytest.raises(UserError, match=complaint) as error:
        generate(**given)
    assert "\n" not in str(error.value)
    assert (tmp_path / "there.mp4").read_text() == "precious"


def test_an_interrupted_suite_leaves_no_half_video(trained, tmp_path, world, monkeypatch):
    def impatient(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "SAMPLERS", {"euler": impatient})
    with pytest.raises(SystemExit):
        generate(trained, tmp_path / "made", world=world, seconds=0.1, steps=1)
    assert list((tmp_path / "made").iterdir()) == []


def test_a_world_of_another_size_is_an_error_that_names_both(trained, tmp_path):
    settings = WorldSettings(48, 24, 0, 1, (9,), families={"steady": 1.0})
    render_world(settings, tmp_path / "world", processes=1)
    with pytest.raises(UserError, match=r"48x48.*32x32"):
        generate(trained, tmp_path / "made", world=tmp_path / "world", seconds=0.1, steps=1)
