import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import generate
from PIL import Image

from mpgen import attention
from mpgen.data.suite import read_suite
from mpgen.errors import UserError
from mpgen.evaluation.suite import find_videos
from mpgen.flow import shift_for_tokens
from mpgen.generation import command, pipeline
from mpgen.generation.sizes import OwnSize
from mpgen.generation.starts.base import Making
from mpgen.generation.starts.scene import FromScene
from mpgen.sampling import SAMPLERS, VelocityFn
from mpgen.sections import Forward
from mpgen.tensors import Latents
from mpgen.video.clips import read_video
from mpgen.world.settings import WorldSettings
from mpgen.world.truth_files import load_truth
from mpgen.world.writer import render_world


@pytest.fixture
def picture(tmp_path, scene_frames):
    Image.fromarray(scene_frames[0]).resize((50, 40)).save(tmp_path / "start.png")
    return tmp_path / "start.png"


def test_an_image_and_a_prompt_become_a_video_of_whole_sections(trained, tmp_path, picture, capsys):
    output = tmp_path / "out.mp4"
    generate(output, trained, image=picture, prompt="a red disc", seconds=0.5, steps=1)
    assert read_video(output).shape == (17, 32, 32, 3)  # 12 frames are one section and a half
    assert json.loads(output.with_suffix(".json").read_text())["prompt"] == "a red disc"
    assert f"{output}: 17 frames, 0.7 s" in capsys.readouterr().out


def test_resolution_and_rate_may_be_asked_for(trained, tmp_path, picture):
    output = tmp_path / "out.mp4"
    generate(output, trained, image=picture, seconds=0.5, fps=12.0, steps=1, resolution=64, shift="auto")
    assert read_video(output).shape == (9, 48, 64, 3)  # 50 x 40 is nearest in shape to 704 x 544
    card = json.loads(output.with_suffix(".json").read_text())
    assert card["fps"] == 12.0
    assert card["sampling"]["shift"] == pytest.approx(shift_for_tokens(2 * 3 * 4))


def test_offloading_changes_no_pixel(trained, tmp_path):
    outputs = [tmp_path / f"{offload}.mp4" for offload in (False, True)]
    for output in outputs:
        generate(output, trained, scene="bounce", seconds=0.1, steps=1, offload=output.stem == "True")
    assert np.array_equal(*(read_video(output) for output in outputs))


def test_attention_may_be_asked_for_and_what_cannot_compute_it_is_said(trained, tmp_path, monkeypatch, count_calls):
    ran = count_calls(attention, "_flex_kernel")
    generate(tmp_path / "out.mp4", trained, scene="bounce", seconds=0.1, steps=1, device="cpu", attention="flex")
    assert ran
    monkeypatch.setattr(attention, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=r"'flash' computes on cuda in float16 or bfloat16, and this network on cpu in"):
        generate(tmp_path / "other.mp4", trained, scene="bounce", device="cpu", attention="flash")


def test_a_scene_brings_its_first_frame_and_its_caption(trained, tmp_path):
    first, again, other = (tmp_path / f"{name}.mp4" for name in ("first", "again", "other"))
    for output, seed in ((first, 1), (again, 1), (other, 2)):
        generate(output, trained, scene="bounce", seconds=0.1, steps=1, seed=seed)
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
    generate(tmp_path / "made", trained, world=world, seconds=0.1, steps=1, num_videos=3)
    names = [f"val_0000{n}_{family}.mp4" for n, family in enumerate(("occlude", "steady", "occlude"))]
    assert sorted(path.name for path in (tmp_path / "made").glob("*.mp4")) == names
    made, generate_video = [], command.generate_video
    monkeypatch.setattr(command, "generate_video", lambda *given: made.append(given[1]) or generate_video(*given))
    (tmp_path / "made" / names[1]).unlink()
    generate(tmp_path / "made", trained, world=world, seconds=0.1, steps=1, num_videos=3)
    assert [job.output.name for job in made] == [names[1]]


def test_witnesses_see_all_until_the_object_has_hidden(trained, tmp_path, world):
    generate(tmp_path / "made", trained, world=world, context="witness", seconds=0.1, steps=1)
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


def test_a_video_may_be_made_with_another_ones_memory(trained, tmp_path, world, count_calls):
    """Of a world, the next one's; alone, that of a video which is named."""
    control = {"memory_control": "other_video", "seconds": 0.1, "steps": 1}
    generate(tmp_path / "made", trained, world=world, num_videos=2, **control)
    first, second = sorted((tmp_path / "made").glob("*.mp4"))
    assert json.loads(first.with_suffix(".json").read_text())["memory_of"] == str(second)

    given, remembered = world / "videos" / second.name, count_calls(pipeline, "OtherVideo")
    generate(tmp_path / "own.mp4", trained, scene="bounce", memory_video=given, **control)
    card = json.loads((tmp_path / "own.json").read_text())
    assert (card["sampling"]["memory_control"], card["memory_of"]) == ("other_video", str(given))
    assert len(remembered[0][2]) == 8  # sections of 8 frames in 65


def test_all_may_be_given_until_the_section_in_which_a_thing_comes_back(trained, tmp_path):
    world = tmp_path / "world"
    settings = WorldSettings(32, 24, 0, 2, (121,), families={"occlude": 1.0}, hidden_seconds=(0.2, 0.3))
    render_world(settings, world, processes=1)
    generate(tmp_path / "made", trained, world=world, context="return", seconds=0.1, steps=1)
    made = sorted((tmp_path / "made").glob("*.mp4"))
    assert made
    for path in made:
        known = json.loads(path.with_suffix(".json").read_text())["context_frames"]
        returns = min(span.first_seen for span in load_truth(world / "truth" / f"{path.stem}.json").hidden_spans)
        assert known % 8 == 1
        assert known <= returns < known + 8


def test_a_suite_is_made_row_by_row_and_scored_by_the_same_file(trained, tmp_path, picture, count_calls, capsys):
    suite, output = tmp_path / "suite.csv", tmp_path / "made"
    suite.write_text("name,image,prompt,seconds\nlong/a,start.png,a red disc,0.6\nb,start.png,,\n")
    generate(output, trained, suite=suite, seconds=0.1, steps=1)
    assert "2 videos at 24 frames a second, made with averaged weights (EMA)" in capsys.readouterr().out
    assert json.loads((output / "b.json").read_text())["model"]["ema"] is True
    assert len(read_video(output / "long/a.mp4")) == 17
    assert len(read_video(output / "b.mp4")) == 9
    found, skipped = find_videos(output, output / "scores", read_suite(suite, "--manifest"))
    assert [(video.name, video.prompt) for video in found] == [("b", ""), ("long/a", "a red disc")]
    assert skipped == []
    made = count_calls(command, "generate_video")
    (output / "b.mp4").unlink()
    generate(output, trained, suite=suite, seconds=0.1, steps=1)
    assert [job.output for _, job, _ in made] == [output / "b.mp4"]


def test_what_a_killed_suite_left_is_made_again(trained, tmp_path, picture, capsys):
    suite, output = tmp_path / "suite.csv", tmp_path / "made"
    suite.write_text("name,image,prompt\na,start.png,a red disc\n")
    generate(output, trained, suite=suite, seconds=0.1, steps=1)
    whole, record = (output / "a.mp4").read_bytes(), (output / "a.json").read_text()
    for left in (None, '{"interrupted": true}', record[:40]):  # before the JSON, after Ctrl-C, while it was written
        (output / "a.mp4").write_bytes(whole[:600])
        (output / "a.json").unlink() if left is None else (output / "a.json").write_text(left)
        generate(output, trained, suite=suite, seconds=0.1, steps=1)
        assert (output / "a.mp4").read_bytes() == whole
        assert "does not say that it is whole: made again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("a,start.png\nb,", "row 2: 'b' has no image"),
        ("a,none.png", r"row 1: image .*none\.png does not exist"),
        ("../a,start.png", "row 1: name '../a': wanted a path inside"),
        ("", "has no row"),
    ],
)
def test_a_suite_that_cannot_be_made_names_the_row(trained, tmp_path, picture, rows, complaint):
    (tmp_path / "suite.csv").write_text(f"name,image\n{rows}\n")
    with pytest.raises(UserError, match=complaint):
        generate(tmp_path / "made", trained, suite=tmp_path / "suite.csv", steps=1)
    assert not (tmp_path / "made").exists()


PATHS = ("image", "output", "ckpt_path", "end_image", "continue_from", "prompts", "model", "memory_video")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "given nothing: wanted one of --image, --continue_from, --branch with --section, --scene"),
        ({"scene": "bounce", "model": "here"}, "given --ckpt_path and --model"),
        ({"scene": "bounce", "ckpt_path": None, "memory": "m"}, "--memory does not go: wanted --model"),
        ({"scene": "bounce", "lora": [Path("x")]}, "--lora does not go with --ckpt_path: wanted --model"),
        ({"scene": "bounce", "end_image": "start.png", "order": "f1"}, "--end_image with --order f1"),
        ({"continue_from": "x.mp4", "order": "f0"}, "--continue_from with --order f0"),
        ({"continue_from": "none.mp4"}, r"none\.mp4"),
        (
            {"image": "start.png", "resolution": 64, "height_px": 32, "width_px": 32},
            "given --resolution and --height_px",
        ),
        ({"image": "start.png", "height_px": 32}, "--height_px: wanted --width_px"),
        ({"image": "start.png", "resolution": 10**7}, "--resolution 10000000"),
        ({"image": "start.png", "height_px": 10**7, "width_px": 32}, "--height_px 10000000"),
        ({"scene": "bounce", "resolution": 64}, "wanted no --resolution"),
        ({"world": Path("w"), "prompts": "none.csv"}, "--prompts does not go with --world"),
        ({"continue_from": "x.mp4", "end_image": "start.png"}, "--end_image does not go with --continue_from"),
        ({"scene": "bounc"}, "--scene bounc: did you mean 'bounce'"),
        ({"scene": "bounce", "sampler": "eular"}, "--sampler eular: did you mean 'euler'"),
        ({"scene": "bounce", "order": "f2"}, "--order f2"),
        ({"scene": "bounce", "memory_control": "frozn"}, "--memory_control frozn: did you mean 'frozen'"),
        ({"scene": "bounce", "memory_control": "other_video"}, "--memory_control other_video: wanted --memory_video"),
        ({"scene": "bounce", "memory_control": "other_video", "memory_video": "none.mp4"}, r"none\.mp4 does not exist"),
        ({"scene": "bounce", "memory_video": "x.mp4"}, "--memory_video belongs to --memory_control other_video"),
        ({"scene": "bounce", "seed": -5}, "--seed -5"),
        ({"scene": "bounce", "shift": 0.0}, "--shift 0"),
        ({"scene": "bounce", "seconds": 1e12}, r"--seconds 1e\+12"),
        ({"image": "start.png", "height_px": 30, "width_px": 32}, "wanted multiples of 16"),
        ({"image": "start.png", "prompts": "none.csv"}, r"none\.csv does not exist"),
        ({"image": "start.png", "fps": 0.0}, "--fps 0"),
        ({"scene": "bounce", "image": "start.png"}, "given --image and --scene"),
        ({"suite": Path("s.csv"), "prompt": "a"}, "--prompt does not go with --suite"),
        ({"suite": Path("none.csv")}, r"--suite none\.csv does not exist"),
        ({"scene": "bounce", "seconds": 0.0}, "--seconds 0"),
        ({"scene": "bounce", "steps": 0}, "--steps 0"),
        ({"world": Path("w"), "num_videos": 0}, "--num_videos 0"),
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
    given |= {n: tmp_path / v if n in PATHS and v else v for n, v in options.items()}
    with pytest.raises(UserError, match=complaint) as error:
        generate(**given)
    assert "\n" not in str(error.value)
    assert (tmp_path / "there.mp4").read_text() == "precious"


def test_an_interrupted_suite_leaves_no_half_video(trained, tmp_path, world, monkeypatch):
    def impatient(*given):
        raise KeyboardInterrupt

    monkeypatch.setitem(SAMPLERS, "euler", impatient)
    with pytest.raises(SystemExit):
        generate(tmp_path / "made", trained, world=world, seconds=0.1, steps=1)
    assert list((tmp_path / "made").iterdir()) == []


def test_a_world_of_another_size_is_an_error_that_names_both(trained, tmp_path):
    settings = WorldSettings(48, 24, 0, 1, (9,), families={"steady": 1.0})
    render_world(settings, tmp_path / "world", processes=1)
    with pytest.raises(UserError, match=r"48x48.*32x32"):
        generate(tmp_path / "made", trained, world=tmp_path / "world", seconds=0.1, steps=1)


def test_a_new_sampler_is_one_function_that_is_registered(trained, tmp_path, monkeypatch, count_calls):
    evaluated = []

    def in_one_step(velocity_fn: VelocityFn, x: Latents, sigmas) -> Latents:
        evaluated.append(len(sigmas) - 1)
        return x - velocity_fn(x, 1.0)

    monkeypatch.setitem(SAMPLERS, "in_one_step", in_one_step)
    output = tmp_path / "out.mp4"
    generate(output, trained, scene="bounce", seconds=0.1, steps=7, sampler="in_one_step")
    assert evaluated == [7]
    assert json.loads(output.with_suffix(".json").read_text())["sampling"]["sampler"] == "in_one_step"


def test_the_folder_of_a_run_stands_for_its_last_checkpoint(trained, tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/last.ckpt").symlink_to(trained)
    for name, path in (("run", tmp_path / "run"), ("file", trained)):
        generate(tmp_path / f"{name}.mp4", path, scene="bounce", seconds=0.1, steps=1)
    assert np.array_equal(*(read_video(tmp_path / f"{name}.mp4") for name in ("run", "file")))


def test_a_scene_is_of_the_world_that_the_model_was_trained_on(model, tmp_path):
    seen = {"object_radius": 0.13, "pace": 0.5, "bounce_objects": [1, 1]}
    starts = []
    for card in (model.card, model.card | {"world": seen}):
        making = Making(replace(model, card=card), OwnSize(), False, tmp_path / "out.mp4", Forward, 0)
        starts.append(FromScene(scene="bounce", seconds=1.0).jobs(making)[0])
    assert len(starts[1].prompt.split(".")) == 2  # one object
    assert not np.array_equal(starts[0].start, starts[1].start)
