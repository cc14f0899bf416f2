"""Laws of comparisons on the same prompts: who is paired with whom, the sign of differences, addresses that exist."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from mpgen.evaluation.command import evaluate


@pytest.fixture
def page(write, moving, tmp_path) -> tuple[Path, str]:
    """The report on two methods that share two names, one of which is hard to put into an address."""
    for method, fade in (("before", 0.7), ("with 50% more", 0.0)):
        for name in ("a b#1", "cat"):
            write(tmp_path / "videos" / method / f"{name}.mp4", moving(30, fade=fade))
    write(tmp_path / "videos" / "before" / "alone.mp4", moving(30))
    evaluate(tmp_path / "videos", tmp_path / "scores", metrics="luminance")
    return tmp_path / "scores", (tmp_path / "scores" / "report.html").read_text()


def test_videos_of_one_name_play_beside_each_other_from_where_they_lie(page):
    folder, text = page
    players = [unquote(found) for found in re.findall(r'<video src="([^"]+)"', text)]
    assert [Path(player).name for player in players] == ["a b#1.mp4"] * 2 + ["cat.mp4"] * 2
    assert all(not Path(player).is_absolute() and (folder / player).is_file() for player in players)
    assert text.count("end minus start") == 1  # one convention, said once


def test_a_difference_is_the_second_method_minus_the_first_on_shared_videos_alone(page):
    _, text = page
    row = re.search(r"<td>\|Δ\| Luminance</td><td>([^<]+)</td>", text).group(1)
    assert float(row.split()[0]) < -1  # the second does not fade
    assert row.endswith("(2)")
    assert "<th>with 50% more minus before</th>" in text
