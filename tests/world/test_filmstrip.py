"""Laws of the picture rows: every picture is where it belongs, in its colour."""

import numpy as np
import pytest
from PIL import Image

from mpgen.world.families import sample_scene
from mpgen.world.filmstrip import Strip, draw_strips, evenly, hidden_at
from mpgen.world.render import render_chunks
from mpgen.world.settings import WorldSettings
from mpgen.world.truth import build_truth


def flat(*rgb: int) -> np.ndarray:
    return np.full((6, 6, 3), rgb, np.uint8)


def test_pictures_stand_in_rows_and_columns_and_keep_their_colours(tmp_path):
    rows = (
        Strip("a", [flat(220, 0, 0), flat(0, 180, 0)], ["", ""], ["", ""]),
        Strip("b", [flat(0, 0, 240), flat(240, 240, 0)], ["0 s", "1 s"], ["red", ""]),
    )
    draw_strips(rows, tmp_path / "strip.png", cell_px=50)
    picture = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB")).astype(int)
    places = []
    for colour in ((220, 0, 0), (0, 180, 0), (0, 0, 240), (240, 240, 0)):
        near = np.argwhere(np.abs(picture - colour).max(-1) <= 4)
        assert len(near) > 0.8 * 50 * 50
        places.append(near.mean(0))
    (top_left, top_right, low_left, low_right) = places
    assert top_left[0] == pytest.approx(top_right[0], abs=1)
    assert low_left[0] - top_left[0] > 50
    assert low_right[1] - low_left[1] > 50
    assert low_left[1] == pytest.approx(top_left[1], abs=2)


def test_columns_run_from_the_first_to_the_last_frame():
    assert evenly(97, 4) == [0, 32, 64, 96]


def test_a_frame_is_marked_while_the_hidden_object_is_out_of_sight():
    scene = sample_scene(WorldSettings(), "occlude", 193, (0, 5))
    truth = build_truth("name", scene, np.concatenate([chunk.visible for chunk in render_chunks(scene, 48)]), 48)
    (span,) = truth.hidden_spans
    marked = [index for index in range(193) if hidden_at(truth, index)]
    assert marked == list(range(span.first_hidden, span.first_seen))
