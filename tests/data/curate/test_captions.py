"""Which caption a clip is trained with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpgen.data.curate.captions import CaptionChoice, drop_camera_motion
from mpgen.errors import UserError


@pytest.mark.parametrize(
    ("captions", "wanted"),
    [
        ({"short": "s", "dense": "d", "main_object": "m"}, "d"),
        ({"short": "s", "dense": "  "}, "s"),
        ({"main_object": "m", "camera": "c"}, "m"),
        ({"camera": "c", "location": "Oslo"}, ""),
        ({}, ""),
    ],
)
def test_the_first_field_of_the_order_that_says_something_is_used(captions, wanted):
    assert CaptionChoice().choose(captions) == wanted


def test_the_order_is_the_users():
    assert CaptionChoice(("camera", "dense")).choose({"dense": "d", "camera": "c"}) == "c"
    with pytest.raises(UserError, match="no field is named"):
        CaptionChoice(())


def test_line_ends_and_double_blanks_become_one_blank():
    assert CaptionChoice().choose({"dense": " a\r\n cat  walks\t"}) == "a cat walks"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The camera moves forward through a market. People buy fruit.", "People buy fruit."),
        ("People buy fruit. The camera then slowly pans to the left! A dog barks.", "People buy fruit. A dog barks."),
        ("As the camera moves forward, a red bus passes.", "A red bus passes."),
        ("While the viewpoint is turning left, rain falls.", "Rain falls."),
        ("The drone camera ascends over a bay.", ""),
        ("Finally, the camera continues to glide along the street.", ""),
        ("A man with a camera walks. He moves it.", "A man with a camera walks. He moves it."),
        ("The camera shop is closed.", "The camera shop is closed."),
        ("The view is wide and green.", "The view is wide and green."),
        ("Rain falls", "Rain falls"),
        ("", ""),
    ],
)
def test_sentences_about_the_cameras_motion_can_be_left_out(text, left):
    assert drop_camera_motion(text) == left


def test_a_caption_of_nothing_but_camera_motion_gives_way_to_the_next_field():
    captions = {"dense": "The camera moves forward.", "short": "A street."}
    assert CaptionChoice(drop_camera_motion=True).choose(captions) == "A street."
    assert CaptionChoice().choose(captions) == "The camera moves forward."


words = st.sampled_from(
    ["The camera moves on.", "As the camera pans, a bus stops.", "A dog barks!", "Rain falls", "a. b"]
)


@given(st.lists(words | st.text(max_size=20), max_size=6).map(" ".join))
def test_leaving_out_adds_no_word_and_a_second_time_changes_nothing(text):
    once = drop_camera_motion(text)
    assert drop_camera_motion(once) == once
    assert set(once.lower().split()) <= set(text.lower().split())
