"""Weights that come with mpgen are found by name, whole, and good at what their card says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mpgen.checkpoints import load_for_generation, shipped
from mpgen.checkpoints.shipped import FOLDER, locate
from mpgen.errors import UserError
from mpgen.generation.answering import answer
from mpgen.generation.rollout import Sampling
from mpgen.sampling import euler
from mpgen.world.questions import after_hiding, from_the_start
from mpgen.world.scoring.aggregate import summarise
from mpgen.world.settings import WorldSettings

BASE = Path("tiny-framepack-f1")


def test_a_name_stands_for_shipped_weights_unless_the_user_has_such_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    (tmp_path / "package" / "tiny").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert locate(Path("tiny")) == tmp_path / "package" / "tiny"
    assert locate(Path("other")) == Path("other")
    assert locate(Path("runs/tiny")) == Path("runs/tiny")
    Path("tiny").mkdir()
    assert locate(Path("tiny")) == Path("tiny")


def test_the_shipped_base_keeps_objects_for_five_seconds():
    model = load_for_generation(locate(BASE), torch.device("cpu"))
    assert sum(parameter.numel() for parameter in model.denoiser.parameters()) == 2_022_480
    assert sum(path.stat().st_size for path in (FOLDER / BASE).iterdir()) < 6_000_000
    seen = model.card["world"]
    world = WorldSettings(
        fps=12, object_radius=seen["object_radius"], pace=seen["pace"], bounce_objects=(1, 2), seed=900
    )
    questions = from_the_start(world, 6, model.denoiser.layout.section_pixel_frames, 5.0)
    sampling = Sampling(euler, 8, model.card["shift"], 1.0, 0)
    made = answer(model.denoiser.float(), model.encoders, questions, sampling)
    scores = summarise([question.score(video) for question, video in zip(questions, made, strict=True)])
    assert scores["first section: video right"]["all"].mean >= 0.8
    assert scores["all sections: found"]["all"].mean >= 0.8
    assert scores["all sections: colour and shape"]["all"].mean >= 0.4
    frozen = [question.frames[np.zeros(len(question.frames), int)] for question in questions]
    still = summarise([question.score(video) for question, video in zip(questions, frozen, strict=True)])
    error = "all sections: position error (diameters)"
    assert scores[error]["all"].mean < 0.9 * still[error]["all"].mean


def test_the_shipped_memory_recalls_what_a_curtain_hid_and_its_base_does_not():
    """Colours and shapes, hidden for longer than FramePack's window of 2.3 s."""
    recalled = {}
    for name in ("tiny-framepack-f1-lookup", "tiny-memorypack"):
        model = load_for_generation(locate(Path(name)), torch.device("cpu"))
        assert sum(path.stat().st_size for path in (FOLDER / name).iterdir()) < 7_000_000
        seen = model.card["world"]
        world = WorldSettings(
            fps=12, object_radius=seen["object_radius"], pace=seen["pace"], families={"curtain": 1.0}, seed=900
        )
        questions = after_hiding(world, 4, model.denoiser.layout.section_pixel_frames, (3.0, 7.0))
        sampling = Sampling(euler, 8, model.card["shift"], 1.0, 0)
        made = answer(model.denoiser.float(), model.encoders, questions, sampling)
        scores = summarise([question.score(video) for question, video in zip(questions, made, strict=True)])
        recalled[name] = scores["recall: colour and shape"]["all"].mean
    assert recalled["tiny-framepack-f1-lookup"] <= 0.2
    assert recalled["tiny-memorypack"] >= 0.6


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.unlink(), r"holds no mpgen\.safetensors"),
        (lambda weights: weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "damaged"),
    ],
    ids=["partial clone", "LFS pointer"],
)
def test_shipped_weights_that_are_not_whole_are_an_error_in_one_line(tmp_path, change, complaint):
    shutil.copytree(FOLDER / BASE, tmp_path / "weights")
    change(tmp_path / "weights" / "mpgen.safetensors")
    with pytest.raises(UserError, match=complaint) as error:
        load_for_generation(tmp_path / "weights", torch.device("cpu"))
    assert "\n" not in str(error.value)
