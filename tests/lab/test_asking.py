"""Questions have one right answer, and the memory that comes with mpgen gives it because of what it remembers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpgen.checkpoints.runs import load_for_generation
from mpgen.checkpoints.shipped import locate
from mpgen.encoders.tiny import TinyEncoders
from mpgen.lab import asking
from mpgen.lab.questions import KINDS, ask, keep, kept
from mpgen.lab.tables import of_videos, read_results, recalled, tables
from mpgen.world.settings import WorldSettings

WORLD = WorldSettings(fps=12, object_radius=0.13, pace=0.5, families={"curtain": 1.0, "bounce": 1.0})
FEW = {name: replace(kind, seconds=min(kind.seconds, 30.0), hidden_seconds=(3.4, 7.0)) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("lab") / "deep" / "questions.pt"
    asked = [*ask(TinyEncoders(), WORLD, 3, {"same place": FEW["same place"]}, most=4)]
    keep([*asked, *ask(TinyEncoders(), WORLD, 3, {"after a pan": FEW["after a pan"]}, most=1)], path)
    return kept(path)


@pytest.fixture(scope="module")
def model():
    return load_for_generation(locate(Path("tiny-memorypack")), torch.device("cpu"))


def test_questions_are_of_their_kind_and_the_truth_is_among_the_answers(questions):
    assert [question.kind for question in questions] == ["same place"] * 4 + ["after a pan"]
    for question in questions:
        assert question.candidates.shape == (len(question.identities), 16 * 3 * 8 * 8)
        assert 0 < question.blind < len(question.sections)
        assert question.hidden_seconds > 3.4
        nearest = torch.cosine_similarity(question.candidates, question.candidates[question.truth][None])
        assert int(nearest.argmax()) == question.truth


def test_the_shipped_memory_recalls_and_every_control_falls_to_chance(questions, model):
    found = asking.recall(model, questions)
    right = {
        control: sum(a["answer"] == a["truth"] for a in found if a["control"] == control and a["kind"] == "same place")
        for control in asking.CONTROLS
    }
    assert right["as it is"] >= 3
    assert right["another video's psi"] + right["without psi"] + right["without the windows that showed it"] <= 1
    assert {a["control"] for a in found if a["kind"] != "same place"} == {"as it is"}


def test_own_videos_and_floors_are_scored_and_tabulated(model, monkeypatch):
    monkeypatch.setattr(asking, "LONG_SECONDS", 6.0)
    monkeypatch.setattr(asking, "STEPS", 2)
    floors = asking.floors(WORLD, 12, most=1)
    own = asking.own_videos(model, WORLD, most=1)
    assert set(own) == set(floors["truth"]) == {"long", "returns"}
    assert floors["truth"]["returns"][0]["returned_right"] == [True] * len(floors["truth"]["returns"][0]["returned"])
    assert not any(floors["frozen"]["returns"][0]["returned"])
    assert [len(video["found"]) for video in (own["long"][0], floors["frozen"]["long"][0])] == [6, 6]
    assert floors["truth"]["long"][0]["found"] == [1.0] * 6


def answers(row, seed, right, base="a"):
    shared = {"control": "as it is", "hidden_seconds": 20.0, "choices": 36, "truth": ["red", "disc"]}
    recall = [
        shared
        | {"kind": kind, "name": f"v{i}", "objects": 1 + i % 3, "answer": ["red", "disc" if i < right else "ring"]}
        for kind in KINDS
        for i in range(4)
    ]
    video = {"name": "v", "found": [1.0, 0.5, None], "identified": [1.0, 0.0, None], "background": [30.0, 28.0, 26.0]}
    video |= {"moved": 1.0, "returned_right": [True, False]}
    about = {"row": row, "seed": seed, "commit": "abc", "base": base, "base_sha256": "0", "context_tokens": 212}
    cost = {"parameters": 2_000_000, "memory_parameters": 0, "training_seconds": 60.0, "asking_seconds": 30.0}
    return about | cost | {"recall": recall, "videos": {"long": [video], "returns": [video]}}


def test_tables_are_of_all_answers_and_say_where_bases_differ(tmp_path):

    for row, seed, right in (("memorypack", 0, 4), ("memorypack", 1, 2), ("f1_ct", 0, 1), ("mine", 0, 0)):
        (tmp_path / f"{row}_seed{seed}.json").write_text(json.dumps(answers(row, seed, right)))
    results = read_results(tmp_path)
    assert list(results) == ["f1_ct", "memorypack", "mine"]
    assert recalled(results["f1_ct"], "after a pan") == {0: {"v0": 1.0, "v1": 0.0, "v2": 0.0, "v3": 0.0}}
    assert of_videos(results["mine"], "long", lambda video: video["moved"]) == {0: {"v": 1.0}}
    text = tables(results, {"truth": answers("x", 0, 0)["videos"]})
    assert "| memorypack | 2 | 212 | 0.75 [" in text
    assert "| *chance* |  |  | 0.03 |" in text
    assert "| f1_ct | -0.75 [" in text  # to memorypack, seed 0
    assert "Results of different bases" not in text
    (tmp_path / "mine_seed0.json").write_text(json.dumps(answers("mine", 0, 0, base="b")))
    assert "**Results of different bases, not to be compared.**" in tables(read_results(tmp_path), {})
    assert tables({}, {}) == "no row has been asked yet"
