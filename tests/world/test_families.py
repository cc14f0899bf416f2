"""Laws of the stories: what the first frame and the caption give away, and what they do not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpgen.errors import UserError
from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.render import render_chunks, render_scene
from mpgen.world.scenes import DIAGONALS, DIRECTIONS, PALETTE, SHAPES, Scene, bouncing
from mpgen.world.scoring.detect import detect
from mpgen.world.settings import WorldSettings
from mpgen.world.truth import UNSEEN, build_truth

SETTINGS = WorldSettings()
LARGE = WorldSettings(object_radius=0.13, pace=0.5)
SCENES = [(family, number) for family in FAMILIES for number in range(6)]


def scene_of(family: str, number: int, num_frames: int = 121) -> Scene:
    """Every other one has larger and slower objects, and twice the time."""
    if number % 2:
        return sample_scene(LARGE, family, 2 * num_frames - 1, (3, number))
    return sample_scene(SETTINGS, family, num_frames, (3, number))


def visible(scene: Scene, size_px: int = 64) -> np.ndarray:
    return np.concatenate([chunk.visible for chunk in render_chunks(scene, size_px)])


@pytest.mark.parametrize(("family", "number"), SCENES)
def test_captions_are_short_lower_case_and_name_what_the_first_frame_shows(family, number):
    scene = scene_of(family, number)
    assert len(scene.caption.split()) <= 40
    assert scene.caption == scene.caption.lower()
    at_start = visible(scene)[0]
    for track, fraction in zip(scene.tracks, at_start, strict=True):
        named = f"{track.colour} {track.shape}" in scene.caption
        assert named == (fraction >= UNSEEN), (track.colour, track.shape, fraction)


@pytest.mark.parametrize("number", range(12))
def test_the_first_frame_holds_no_pixel_of_the_object_that_will_hide(number):
    scene = scene_of("occlude", number)
    without = tuple(track for track in scene.tracks if track.role != "target")
    bare = replace(scene, tracks=without)
    np.testing.assert_array_equal(render_scene(scene, 64)[0], render_scene(bare, 64)[0])


@pytest.mark.parametrize("number", range(12))
def test_the_target_is_seen_whole_then_hidden_then_seen_whole_again(number):
    scene = scene_of("occlude", number, num_frames=193)
    target = [track.role for track in scene.tracks].index("target")
    truth = build_truth("name", scene, visible(scene), 64)
    (span,) = truth.hidden_spans
    shown = truth.objects[target].visible
    assert (shown[: span.first_hidden] > 0.98).sum() >= 8
    assert (shown[span.first_seen :] > 0.98).sum() >= 4
    hidden = (span.first_seen - span.first_hidden) / scene.fps
    assert (
        SETTINGS.hidden_seconds[0] - 0.1 <= hidden <= SETTINGS.hidden_seconds[1] + 0.3
    )  # a small shape is hidden longer
    assert truth.witness_frames == span.first_hidden + 1


@pytest.mark.parametrize("number", range(6))
def test_a_cue_changes_the_walls_light_until_the_target_is_out_and_nothing_else(number):
    long = replace(SETTINGS, hidden_seconds=(2.5, 4.0))
    plain = sample_scene(long, "occlude", 241, (3, number))
    scene = sample_scene(replace(long, cue_seconds=1.0), "occlude", 241, (3, number))
    truth = build_truth("name", scene, visible(scene), 64)
    (span,) = truth.hidden_spans
    (lit,) = np.nonzero(scene.lit)
    assert span.first_hidden < lit[0] + scene.fps  # never while it is still going in
    assert 0 <= span.first_seen - scene.fps - lit[0] <= scene.fps // 3  # small and slow shapes show a little later
    assert len(lit) == lit[-1] - lit[0] + 1
    shown = truth.objects[span.object_id].visible
    assert shown[lit[-1]] > 0.9
    assert plain.lit is None
    changed, still = render_scene(scene, 32).astype(int), render_scene(plain, 32).astype(int)
    differs = np.abs(changed - still).max((1, 2, 3)) > 0
    np.testing.assert_array_equal(differs, scene.lit != 0)
    seen = detect(render_scene(replace(scene, tracks=()), 64), 5.0)  # a wall alone is never an object
    assert not seen.area.any()


@pytest.mark.parametrize("number", range(12))
def test_the_distractor_is_another_colour_and_shape_and_never_out_of_sight(number):
    scene = scene_of("occlude", number)
    distractor, target = scene.tracks
    assert (distractor.role, target.role) == ("distractor", "target")
    assert distractor.colour != target.colour
    assert distractor.shape != target.shape
    assert visible(scene)[:, 0].min() > 0.97
    apart = np.hypot(distractor.x - target.x, distractor.y - target.y).min()
    assert apart > 2.4 * scene.object_radius


@pytest.mark.parametrize("number", range(8))
def test_the_camera_comes_back_to_the_very_same_picture(number):
    scene = scene_of("panback", number, num_frames=193)
    frames = render_scene(scene, 48)
    away = np.abs(scene.camera - scene.camera[0]).max(1)
    assert away.max() > 1
    truth = build_truth("name", scene, visible(scene), 48)
    assert truth.revisit_spans
    start, stop = truth.revisit_spans[0]
    home = start + int(np.argmin(away[start:stop]))
    assert away[home] == 0
    np.testing.assert_array_equal(frames[home], frames[0])


@pytest.mark.parametrize("number", range(8))
def test_first_seen_landmarks_are_out_of_sight_when_the_camera_is_farthest(number):
    scene = scene_of("panback", number)
    shown = visible(scene)
    farthest = int(np.argmax(np.abs(scene.camera - scene.camera[0]).max(1)))
    assert shown[farthest, shown[0] > UNSEEN].max() == 0
    assert (shown[0] > 0.98).sum() == (shown[0] > UNSEEN).sum() == 2


@pytest.mark.parametrize(("family", "number"), [s for s in SCENES if s[0] in ("steady", "bounce")])
def test_the_caption_says_where_an_object_goes_and_how_fast(family, number):
    scene = scene_of(family, number)
    world = LARGE if number % 2 else SETTINGS
    clauses = scene.caption.split(". ")
    for track, clause in zip(scene.tracks, clauses, strict=True):
        words = clause.split(" moves ")[1].split(" and bounces")[0].rsplit(" ", 1)
        velocity = np.multiply({**DIRECTIONS, **DIAGONALS}[words[0]], world.speeds[words[1]])
        step = np.array([track.x[1] - track.x[0], track.y[1] - track.y[0]]) * scene.fps
        turned = np.isclose(np.abs(step), np.abs(velocity), atol=1e-9) & ~np.isclose(step, velocity, atol=1e-9)
        near_edge = np.abs(np.array([track.x[0], track.y[0]]) - 0.5) > 0.5 - world.margin - world.speeds["quickly"] / 24
        assert (np.isclose(step, velocity, atol=1e-9) | turned | near_edge).all()
        assert not (turned & ~near_edge).any()


@given(
    margin=st.floats(0.01, 0.4),
    place=st.floats(0, 1),
    velocity=st.floats(-1.5, 1.5),
    fps=st.integers(6, 60),
)
@settings(max_examples=60, deadline=None)
def test_a_bouncing_object_stays_inside_and_never_jumps(margin, place, velocity, fps):
    start = margin + place * (1 - 2 * margin)
    way = bouncing(start, velocity, 50, fps, margin)
    assert way[0] == pytest.approx(start)
    assert way.min() >= margin - 1e-9
    assert way.max() <= 1 - margin + 1e-9
    assert np.abs(np.diff(way)).max() <= abs(velocity) / fps + 1e-9


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_frames", [5, 33, 401])
def test_stories_of_any_length_can_be_told(family, num_frames):
    scene = scene_of(family, 0, num_frames)
    assert scene.num_frames == num_frames
    for track in scene.tracks:
        assert len(track.x) == len(track.y) == num_frames
        assert track.colour in PALETTE
        assert track.shape in SHAPES


def test_the_key_alone_decides_the_story():
    one, same = (sample_scene(SETTINGS, "bounce", 33, (1, 5)) for _ in range(2))
    other = sample_scene(SETTINGS, "bounce", 33, (1, 6))
    np.testing.assert_array_equal(render_scene(one, 32), render_scene(same, 32))
    assert one.caption != other.caption


def test_an_unknown_family_names_the_known_ones():
    with pytest.raises(UserError, match="occlude, curtain, panback, steady, bounce"):
        sample_scene(SETTINGS, "ocluded", 33, (0,))


@pytest.mark.parametrize(("fewest", "most"), [(1, 1), (2, 2), (2, 4)])
def test_bounce_has_as_many_objects_as_asked_for(fewest, most):
    asked = WorldSettings(bounce_objects=(fewest, most))
    counts = {len(sample_scene(asked, "bounce", 9, (0, number)).tracks) for number in range(40)}
    assert counts == set(range(fewest, most + 1))


def test_a_wrong_number_of_objects_is_one_line():
    with pytest.raises(UserError, match="bounce_objects 3, 2: 1 <= fewest <= most <= 4 is wanted"):
        WorldSettings(bounce_objects=(3, 2))


@pytest.mark.parametrize("number", range(8))
def test_a_curtain_shows_all_hides_all_and_shows_the_same_again(number):
    long = replace(SETTINGS, hidden_seconds=(2.0, 3.0), bounce_objects=(2, 3))
    scene = sample_scene(long, "curtain", 241, (3, number))
    frames, shown = render_scene(scene, 48), visible(scene, 48)
    nothing = Scene(
        scene.family, "", scene.fps, scene.object_radius, (), scene.backdrop, scene.camera, curtain=scene.curtain
    )
    covered = render_scene(replace(nothing, drawn=np.ones(241)), 48)
    np.testing.assert_array_equal(frames[0], covered[0])
    (closed,), (opened,) = np.nonzero(np.abs(scene.drawn) == 1), np.nonzero(scene.drawn == 0)
    assert shown[closed].max() == 0
    assert shown[opened].min() > 0.999
    assert (frames[opened] == frames[opened[0]]).all()
    truth = build_truth("name", scene, shown, 48)
    assert {span.object_id for span in truth.hidden_spans} == set(range(len(scene.tracks)))
    for span in truth.hidden_spans:
        assert 2.0 <= (span.first_seen - span.first_hidden) / scene.fps <= 3.0 + 1.5  # the curtain's own way
    first = [min(s.first_hidden for s in truth.hidden_spans if s.object_id == obj.id) for obj in truth.objects]
    assert truth.witness_frames == max(first) + 1
    seen = detect(covered[:1], 5.0)
    assert not seen.area.any()


def test_curtains_that_begin_open_show_in_the_first_frame_what_they_hide_later():
    open_first = replace(SETTINGS, hidden_seconds=(2.0, 3.0), open_share=0.5)
    scenes = [sample_scene(open_first, "curtain", 241, (3, number)) for number in range(20)]
    shown = [visible(scene, 48) for scene in scenes]
    begins_open = [bool(share[0].min() > 0.999) for share in shown]
    assert 5 <= sum(begins_open) <= 15
    assert all(share[0].max() == 0 for share, is_open in zip(shown, begins_open, strict=True) if not is_open)
    assert begins_open == [not scene.caption.startswith("a curtain opens") for scene in scenes]
    assert all(share.min(0).max() == 0 for share in shown)  # everything is hidden once
