"""Laws of counterfactuals: one object changes and nothing else, and the true answer is among those asked for."""

import numpy as np
import pytest

from mpgen.world.counterfactuals import FAMILIES, questions
from mpgen.world.render import render_scene
from mpgen.world.scenes import PALETTE, SHAPES
from mpgen.world.settings import WorldSettings
from mpgen.world.writer import render_world

SECTION_FRAMES = 16


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    families = dict.fromkeys(FAMILIES, 1.0) | {"bounce": 1.0}
    settings = WorldSettings(
        size_px=32, train_videos=0, val_videos=12, pixel_frames=(193,), families=families, hidden_seconds=(0.5, 1.0)
    )
    render_world(settings, root, processes=1)
    return list(questions(root, SECTION_FRAMES))


def test_only_videos_in_which_something_returns_are_asked_about(asked):
    families = {question.scene.family for question in asked}
    assert families
    assert families <= set(FAMILIES)


def test_the_true_identity_is_among_the_answers_and_leaves_the_scene_as_it_is(asked):
    for question in asked:
        assert question.identity in question.identities()
        others = len(question.scene.tracks) - 1
        assert len(question.identities()) == (len(PALETTE) - others) * len(SHAPES)
    alone = next(question for question in asked if question.scene.family == "curtain")
    true = render_scene(alone.scene, 32)
    assert np.array_equal(render_scene(alone.with_identity(alone.identity), 32), true)


def test_another_identity_is_seen_where_the_object_is_and_only_while_it_is_in_sight(asked):
    question = next(question for question in asked if question.scene.family == "curtain")
    true, without = render_scene(question.scene, 32), render_scene(question.without(), 32)
    hidden = slice(question.span.first_hidden, question.span.first_seen)
    assert np.array_equal(true[hidden], without[hidden])
    back = slice(1 + question.section * SECTION_FRAMES, 1 + (question.section + 1) * SECTION_FRAMES)
    assert not np.array_equal(true[back], without[back])
