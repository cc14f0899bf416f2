"""What the page shows of texts that strangers wrote, and of what is read."""

import re

import pytest

from mpgen.generation.reading import Reading
from mpgen.studio import views
from mpgen.studio.live import Progress
from mpgen.studio.queue import Task

from .conftest import scene

HOSTILE = '<img src=x onerror="alert(1)">{{value}}${alert(1)}'


def shown(task: Task) -> dict[str, str]:
    progress = Progress(3, 10, 2.0, 4.0, 3.5, False, 7, ())
    return {
        "live": views.live(task, progress, b"jpeg"),
        "player": views.player(task),
        "queue": views.queue([task]),
        "gallery": views.gallery([task]),
        "notice": views.notice(HOSTILE, bad=True),
    }


@pytest.mark.parametrize("state", ["waiting", "making", "done", "stopped", "failed"])
def test_no_text_becomes_markup_or_a_template(state):
    for page in shown(Task(1, scene(prompt=HOSTILE), state, said=HOSTILE)).values():
        assert "<img src=x" not in page
        assert "{{" not in page
        assert "${" not in page


def test_the_pace_is_said_in_words():
    live = shown(Task(4, scene(prompt="a cat"), "making"))["live"]
    assert "section 4 of 10 · 2.00 sections a second · 4.0 times real time · 4 s left" in live
    assert 'data-task="4" data-made="3" data-previews="7"' in live
    assert "width:30.0%" in live
    endless = Progress(120, None, 2.0, 4.0, None, True, 7, ())
    assert "paused · 2.00" in views.live(Task(4, scene(), "making"), endless, b"")
    assert views.seconds_in_words(125.0) == "2 min 05 s"


def test_a_video_that_is_made_grows_and_one_that_is_done_is_a_file():
    assert 'data-live="live/000007.mp4"' in views.player(Task(7, scene(), "making"))
    assert 'src="videos/000007.mp4"' in views.player(Task(7, scene(), "done"))
    assert "disk is full" in views.player(Task(7, scene(), "failed", said="disk is full"))


def test_columns_of_what_is_read_are_as_high_as_its_shares():
    parts = {"memory": 0.25, "history_4x": 0.125, "start": 0.125, "section": 0.375, "text and image": 0.125}
    svg = views.readings([(4, Reading(parts, (0.05, 0.2))), (5, Reading(parts, (0.25, 0.0)))], width=100, height=80)
    bars = re.findall(r'y="([\d.]+)" width="50.05" height="([\d.]+)"', svg)
    assert bars[:5] == [
        ("0.00", "20.00"),
        ("20.00", "10.00"),
        ("30.00", "10.00"),
        ("40.00", "30.00"),
        ("70.00", "10.00"),
    ]
    assert "What sections 5 to 6 read" in svg
    assert "long-term memory 25%" in svg
    assert re.findall(r'fill-opacity="([\d.]+)"', svg) == ["0.20", "0.80", "1.00"]
    assert views.readings([]) == ""
