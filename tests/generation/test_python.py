"""The pipeline in a few lines of Python makes what `mpgen generate` makes."""

import json
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from command_line import generate
from PIL import Image

import mpgen
from mpgen.checkpoints.command import export
from mpgen.errors import UserError
from mpgen.generation.denoising import Denoising
from mpgen.generation.pipeline import stream_frames
from mpgen.generation.python import MemoryPackPipeline, _is_released
from mpgen.video.clips import read_video

DENOISING = Denoising(steps=1, seed=3)


@pytest.fixture(scope="module")
def pipeline(trained):
    return MemoryPackPipeline.from_pretrained(trained, device="cpu")


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def test_a_saved_video_is_that_of_the_command(pipeline, picture, trained, tmp_path):
    picture.save(tmp_path / "start.png")
    generate(tmp_path / "a.mp4", trained, image=tmp_path / "start.png", prompt="a disc", seconds=0.5, steps=1, seed=3)
    made = pipeline(tmp_path / "start.png", "a disc", 0.5, denoising=DENOISING).save(tmp_path / "b.mp4", progress=False)
    assert np.array_equal(read_video(tmp_path / "a.mp4"), read_video(made.output))
    records = [json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json")]
    assert records[0]["sampling"] == records[1]["sampling"]
    assert made.frames == 17


def test_frames_come_as_they_are_made_and_as_they_are_saved(pipeline, picture, tmp_path, monkeypatch):
    video = pipeline(picture, "a disc", 0.5, denoising=DENOISING)
    saved = read_video(video.save(tmp_path / "out.mp4", progress=False).output)
    frames = np.stack(list(video))
    assert frames.shape == saved.shape == (17, 32, 32, 3)
    assert np.abs(frames.astype(int) - saved).mean() < 6
    told = []
    once = stream_frames(pipeline.model, video.job, video.sampling, told.append)
    assert len(list(islice(once, 9))) == 9
    assert told == []  # of two sections one is made, and not all its frames are taken
    once.close()


def test_a_picture_may_be_a_file_a_picture_or_an_array(pipeline, picture, tmp_path):
    picture.save(tmp_path / "start.png")
    given = (tmp_path / "start.png", str(tmp_path / "start.png"), picture, np.asarray(picture))
    starts = [pipeline(image).job.start for image in given]
    assert all(np.array_equal(start, starts[0]) for start in starts)
    assert starts[0].shape == (32, 32, 3)
    assert pipeline(picture, height_px=48, width_px=64).job.start.shape == (48, 64, 3)


def test_an_exported_folder_and_what_it_saves_again_make_the_same_video(pipeline, picture, trained, tmp_path):
    export(trained, tmp_path / "once")
    MemoryPackPipeline.from_pretrained(tmp_path / "once", device="cpu").save_pretrained(tmp_path / "twice")
    again = MemoryPackPipeline.from_pretrained(str(tmp_path / "twice"), device="cpu")
    assert again.model.card["steps"] == 2  # the optimizer's, which say nothing of a section's
    assert again(picture).sampling.steps == 10
    frames = [np.stack(list(p(picture, "x", 0.3, denoising=DENOISING))) for p in (pipeline, again)]
    assert np.array_equal(*frames)
    with pytest.raises(UserError, match="twice exists"):
        again.save_pretrained(tmp_path / "twice")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"seconds": 0.0}, r"--seconds 0: wanted more than 0"),
        ({"height_px": 32}, r"height_px=32, width_px=None: wanted both or neither"),
        ({"image": "nowhere.png"}, r"image nowhere\.png does not exist"),
        ({"image": np.zeros((4, 4), np.uint8)}, r"array of uint8 \[4, 4\]: wanted uint8 \[height, width, 3\]"),
    ],
)
def test_what_cannot_be_made_is_one_line(pipeline, picture, given, complaint):
    with pytest.raises(UserError, match=complaint):
        pipeline(**{"image": picture} | given)


def test_a_checkpoint_takes_no_other_memory(trained):
    with pytest.raises(UserError, match="wanted no memory, encoders or lora"):
        MemoryPackPipeline.from_pretrained(trained, memory=trained)


def test_an_export_without_a_memory_is_no_released_folder(tmp_path):
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"_class_name": "HeliosTransformer3DModel"}')
    assert _is_released(tmp_path)
    (tmp_path / "config.json").write_text('{"denoiser": {}}')
    assert not _is_released(tmp_path)


def test_it_is_imported_from_the_package_and_only_when_asked_for():
    assert mpgen.MemoryPackPipeline is MemoryPackPipeline
    assert mpgen.Denoising is Denoising
    with pytest.raises(AttributeError, match="has no attribute 'Pipeline'"):
        _ = mpgen.Pipeline
    script = "import sys, mpgen; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
