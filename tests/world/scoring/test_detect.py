"""Laws of the eyes: what is there is found, where it is, under blur and codec, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpgen.world.render import render_scene
from mpgen.world.scenes import PALETTE, SHAPES, Backdrop, Scene, Track, fixed
from mpgen.world.scoring.detect import COLOURS, detect, label_blobs

OBJECT_RADIUS = 0.11
RADIUS = OBJECT_RADIUS * 64


def picture(*objects: tuple[str, str, float, float], grey: float = 0.3) -> np.ndarray:
    backdrop = Backdrop((grey, grey, grey), np.zeros((0, 2)), np.zeros(0), np.zeros((0, 3)))
    tracks = tuple(Track(s, c, fixed(x, 1), fixed(y, 1), "mover") for s, c, x, y in objects)
    return render_scene(Scene("bounce", "", 24, OBJECT_RADIUS, tracks, backdrop, np.zeros((1, 2))), 64)


def blur(frames: np.ndarray, times: int) -> np.ndarray:
    soft = frames.astype(float)
    for _ in range(times):
        for axis in (1, 2):
            soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    return np.rint(soft).astype(np.uint8)


@pytest.mark.parametrize("colour", PALETTE)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_is_recognised_where_it_stands(shape, colour):
    seen = detect(picture((shape, colour, 0.4, 0.6)), RADIUS)
    assert [COLOURS[k] for k in np.flatnonzero(seen.area[0])] == [colour]
    kind = COLOURS.index(colour)
    assert np.hypot(seen.x[0, kind] - 0.4 * 64, seen.y[0, kind] - 0.6 * 64) < 0.6
    assert SHAPES[seen.shape[0, kind]] == shape
    assert seen.other_area[0, kind] == 0


@given(
    colour=st.sampled_from(COLOURS),
    x=st.floats(0.2, 0.8),
    y=st.floats(0.2, 0.8),
    grey=st.floats(0.12, 0.45),
    gain=st.floats(0.9, 1.05),
    times=st.integers(0, 4),
)
@settings(max_examples=60, deadline=None)
def test_colour_and_place_survive_blur_and_a_change_of_brightness(colour, x, y, grey, gain, times):
    frames = blur(picture(("disc", colour, x, y), grey=grey), times)
    frames = np.rint(np.clip(frames * gain, 0, 255)).astype(np.uint8)
    seen = detect(frames, RADIUS)
    kind = COLOURS.index(colour)
    assert seen.area[0].argmax() == kind
    assert 0.5 < seen.area[0, kind] / (np.pi * RADIUS**2) < 1.5
    assert np.hypot(seen.x[0, kind] - x * 64, seen.y[0, kind] - y * 64) < 1


def test_an_empty_picture_has_no_object():
    seen = detect(picture(), RADIUS)
    assert not seen.area.any()
    assert np.isnan(seen.x).all()
    assert (seen.shape == -1).all()


def test_a_double_is_reported_and_two_pieces_of_one_object_are_joined():
    kind = COLOURS.index("green")
    double = detect(picture(("disc", "green", 0.25, 0.3), ("disc", "green", 0.7, 0.7)), RADIUS)
    assert double.other_area[0, kind] > 0.8 * np.pi * RADIUS**2
    broken = picture(("disc", "green", 0.5, 0.5))
    broken[:, :, 31:33] = broken[0, 0, 0]
    seen = detect(broken, RADIUS)
    assert seen.other_area[0, kind] == 0
    assert seen.x[0, kind] == pytest.approx(32, abs=0.3)
    assert seen.area[0, kind] > 0.7 * np.pi * RADIUS**2


def test_frames_are_seen_one_by_one_however_many_there_are():
    one, other = picture(("ring", "red", 0.3, 0.3)), picture(("cross", "blue", 0.6, 0.7), ("disc", "white", 0.2, 0.3))
    frames = np.concatenate([one, other] * 40)
    seen, alone = detect(frames, RADIUS), detect(other, RADIUS)
    np.testing.assert_array_equal(seen.x[1::2], np.repeat(alone.x, 40, 0))
    np.testing.assert_array_equal(seen.shape[1::2], np.repeat(alone.shape, 40, 0))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_blobs_are_those_of_a_flood_fill(seed):
    colour = np.random.default_rng(seed).integers(-1, 2, (2, 7, 9))
    labels = label_blobs(colour)
    for start in np.ndindex(colour.shape):
        if colour[start] < 0:
            assert labels[start] == -1
            continue
        blob, todo = {start}, [start]
        while todo:
            t, row, column = todo.pop()
            for cell in ((t, row + 1, column), (t, row - 1, column), (t, row, column + 1), (t, row, column - 1)):
                inside = 0 <= cell[1] < 7 and 0 <= cell[2] < 9
                if inside and cell not in blob and colour[cell] == colour[start]:
                    blob.add(cell)
                    todo.append(cell)
        assert blob == {tuple(map(int, cell)) for cell in np.argwhere(labels == labels[start])}
