import json
from dataclasses import replace

import pytest

from mpgen.errors import UserError
from mpgen.training.callbacks.result import HeldOutResult
from mpgen.video.clips import read_video
from mpgen.world.settings import WorldSettings

WORLD = WorldSettings(size_px=32, fps=8, families={"curtain": 1.0, "bounce": 1.0}, object_radius=0.13)


def test_a_run_ends_with_base_and_result_beside_the_truth(fit, make_module, make_small_data, trained, tmp_path, capsys):
    data = make_small_data()
    data.world = WORLD
    data.prepare_data = lambda: None  # the videos on disk are another world's
    asked = HeldOutResult(num_long=1, num_hiding=1, seconds=6.0, hidden_seconds=(0.5, 2.0), steps=1)
    fit(make_module(init_from=trained), data, tmp_path, 1, callbacks=[asked])
    scores = json.loads((tmp_path / "result.json").read_text())
    assert list(scores) == ["truth", "base", "ours"]
    assert scores["truth"]["recall"]["recall: colour and shape"]["mean"] == 1
    assert scores["truth"]["long"]["last four seconds: found"]["mean"] == 1
    assert scores["ours"]["long"]["last four seconds: found"]["mean"] < 1
    film = read_video(tmp_path / "result.mp4")
    assert film.shape == (49, 3 * 32, 3 * (3 * 32 + 2 * 2), 3)
    assert (tmp_path / "result.png").stat().st_size > 1000
    assert "held-out videos" in capsys.readouterr().out


def test_a_world_that_hides_nothing_is_not_asked_for_recall(fit, make_module, make_small_data, tmp_path, capsys):
    data = make_small_data()
    data.world = replace(WORLD, families={"bounce": 1.0})
    data.prepare_data = lambda: None
    fit(make_module(), data, tmp_path, 1, callbacks=[HeldOutResult(num_long=1, num_hiding=1, seconds=1.0, steps=1)])
    assert list(json.loads((tmp_path / "result.json").read_text())["ours"]) == ["long"]
    out = capsys.readouterr().out
    assert "last four seconds" in out
    assert "hiding" not in out


def test_without_a_world_there_is_nothing_to_ask(fit, make_module, make_small_data, tmp_path):
    with pytest.raises(UserError, match=r"data\.world"):
        fit(make_module(), make_small_data(), tmp_path, 1, callbacks=[HeldOutResult()])
