"""Laws of drawing: coverage, depth order, visibility, and pictures that do not depend on how they are cut up."""

from dataclasses import replace

import numpy as np
import pytest

from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.render import CHUNK_FRAMES, render_chunks, render_scene
from mpgen.world.scenes import PALETTE, SHAPES, Backdrop, Patch, Scene, Track, fixed
from mpgen.world.settings import WorldSettings
from mpgen.world.shapes import shape_coverage

OBJECT_RADIUS = 0.11
GREY = Backdrop((0.3, 0.3, 0.3), np.zeros((0, 2)), np.zeros(0), np.zeros((0, 3)))


def still_life(*tracks: tuple[str, str, float, float, bool], walls: tuple[Patch, ...] = ()) -> Scene:
    objects = tuple(Track(s, c, fixed(x, 1), fixed(y, 1), "mover", behind) for s, c, x, y, behind in tracks)
    return Scene("bounce", "", 24, OBJECT_RADIUS, objects, GREY, np.zeros((1, 2)), walls)


def look(scene: Scene, size_px: int = 80) -> tuple[np.ndarray, np.ndarray]:
    (chunk,) = render_chunks(scene, size_px)
    return chunk.frames[0], chunk.visible[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_covers_what_a_fine_grid_says_it_covers(shape):
    radius, fine = 7.0, 8
    coarse = np.arange(-12, 12) + 0.5
    points = (np.arange(24 * fine) + 0.5) / fine - 12
    exact = shape_coverage(shape, points[None], points[:, None], radius) > 0.5
    exact = exact.reshape(24, fine, 24, fine).mean((1, 3))
    drawn = shape_coverage(shape, coarse[None], coarse[:, None], radius)
    assert np.abs(drawn - exact).max() < 0.35  # corners and thin places
    assert np.abs(drawn.sum() / exact.sum() - 1) < 0.03


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_centred_on_its_centre(shape):
    grid = np.arange(-20, 20) + 0.5
    drawn = shape_coverage(shape, grid[None], grid[:, None], 9.0)
    assert (drawn.sum(0) @ grid) / drawn.sum() == pytest.approx(0, abs=0.05)
    assert (drawn.sum(1) @ grid) / drawn.sum() == pytest.approx(0, abs=0.1)


def test_no_two_shapes_look_alike():
    grid = np.arange(-12, 12) + 0.5
    drawn = [shape_coverage(shape, grid[None], grid[:, None], 7.0) for shape in SHAPES]
    overlaps = [np.minimum(a, b).sum() / np.maximum(a, b).sum() for i, a in enumerate(drawn) for b in drawn[:i]]
    assert max(overlaps) < 0.87


def test_palette_colours_are_far_apart():
    colours = np.array(list(PALETTE.values()), float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e3 * np.eye(len(colours))
    assert distances.min() > 100


def test_the_first_track_is_in_front():
    frame, visible = look(still_life(("disc", "red", 0.5, 0.5, False), ("disc", "blue", 0.5, 0.5, False)))
    np.testing.assert_array_equal(frame[40, 40], PALETTE["red"])
    np.testing.assert_allclose(visible, [1, 0], atol=0.05)  # the edge's pixels are half transparent


def test_a_half_covered_object_is_half_visible():
    wall = Patch(0.5, -1.0, 2.0, 2.0, (0.6, 0.6, 0.6))
    _, visible = look(
        still_life(("square", "green", 0.5, 0.4, True), ("square", "red", 0.5, 0.8, False), walls=(wall,))
    )
    np.testing.assert_allclose(visible, [0.5, 1], atol=0.01)


def test_an_object_half_outside_is_half_visible_and_one_far_outside_is_not_drawn():
    frame, visible = look(still_life(("square", "red", 0.0, 0.4, False), ("square", "blue", 4.0, -3.0, False)))
    np.testing.assert_allclose(visible, [0.5, 0], atol=0.01)
    expected, _ = look(still_life(("square", "red", 0.0, 0.4, False)))
    np.testing.assert_array_equal(frame, expected)


def test_an_object_stands_where_its_track_says_in_its_colour():
    frame, _ = look(still_life(("square", "cyan", 0.3, 0.7, False)))
    mask = (frame == PALETTE["cyan"]).all(-1)
    rows, columns = np.nonzero(mask)
    assert columns.mean() + 0.5 == pytest.approx(24, abs=0.1)
    assert rows.mean() + 0.5 == pytest.approx(56, abs=0.1)
    side = 2 * 0.86 * OBJECT_RADIUS * 80
    assert (side - 1.5) ** 2 < mask.sum() < (side + 0.1) ** 2


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pictures_do_not_depend_on_where_a_chunk_begins(family):
    scene = sample_scene(WorldSettings(), family, 2 * CHUNK_FRAMES + 5, (1,))
    whole = render_scene(scene, 32)
    cut = 7
    later = render_scene(scene.between(cut, scene.num_frames), 32)
    assert np.abs(whole[cut:].astype(int) - later).max() <= 1  # float32 sums of waves in another order
    assert (whole[cut:] == later).mean() > 0.999


@pytest.mark.parametrize("family", FAMILIES)
def test_a_larger_picture_is_the_same_scene(family):
    scene = sample_scene(WorldSettings(), family, 9, (2,))
    small, large = render_scene(scene, 48), render_scene(scene, 96)
    shrunk = large.reshape(9, 48, 2, 48, 2, 3).mean((2, 4))
    assert np.abs(small - shrunk).mean() < 2


@pytest.mark.parametrize("family", FAMILIES)
def test_backgrounds_are_duller_than_any_object(family):
    for number in range(5):
        scene = sample_scene(WorldSettings(), family, 5, (4, number))
        frame = render_scene(replace(scene, tracks=()), 64)[0].astype(float)
        assert (frame.max(-1) - frame.min(-1)).max() < 70
        assert frame.max() < 175
