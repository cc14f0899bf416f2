"""Laws of questions: what is given shows what is asked, which comes right after it; the truth answers them."""

import numpy as np
import pytest

from mpgen.world.questions import after_hiding, from_the_start
from mpgen.world.settings import WorldSettings

SETTINGS = WorldSettings(
    size_px=32, fps=8, families={"curtain": 1.0, "occlude": 1.0, "steady": 1.0, "bounce": 1.0}, object_radius=0.13
)
SECTION = 8


@pytest.fixture(scope="module")
def hiding():
    return after_hiding(SETTINGS, 4, SECTION, (2.0, 4.0))


def test_what_hid_was_seen_in_what_is_given_and_comes_back_in_the_next_section(hiding):
    assert [question.truth.family for question in hiding].count("curtain") == 2
    for question in hiding:
        span = next(span for span in question.truth.hidden_spans if span.first_seen >= question.given)
        shown = question.truth.objects[span.object_id].visible
        assert (question.given - 1) % SECTION == (len(question.frames) - 1) % SECTION == 0
        assert question.given <= span.first_seen < question.given + SECTION
        assert 2 <= (span.first_seen - span.first_hidden) / SETTINGS.fps <= 4
        assert shown[: span.first_hidden].max() > 0.95
        assert shown[question.given :].max() > 0.95


def test_a_curtain_that_hides_has_begun_to_open_where_the_question_begins(hiding):
    curtains = [question for question in hiding if question.truth.family == "curtain"]
    for question in curtains:
        closed = question.frames[0].astype(int)  # these curtains begin closed
        assert np.abs(question.frames[question.given - 1] - closed).max() > 20
        assert np.abs(question.frames[question.given - 2 * SECTION] - closed).max() < 3


def test_the_true_frames_answer_every_question(hiding):
    for question in hiding:
        (recall, *_) = question.score(question.frames).recalls
        assert recall.witnessed
        assert recall.identity_right
    for question in from_the_start(SETTINGS, 2, SECTION, 6.0):
        assert question.given == 1
        assert question.num_asked == 6
        assert question.score(question.frames).first_section_right


def test_the_last_frame_held_answers_none(hiding):
    for question in hiding:
        frozen = question.frames[np.minimum(np.arange(len(question.frames)), question.given - 1)]
        assert not any(recall.identity_right for recall in question.score(frozen).recalls)


def test_the_same_seed_asks_the_same_questions():
    (one,), (again,) = (from_the_start(SETTINGS, 1, SECTION, 2.0) for _ in range(2))
    np.testing.assert_array_equal(one.frames, again.frames)
