"""Laws of the scores: the truth gets full marks, and a fault shows in its own score and in no other."""

from dataclasses import replace

import numpy as np
import pytest

from mpgen.errors import UserError
from mpgen.world.families import FAMILIES
from mpgen.world.render import render_chunks, render_scene
from mpgen.world.scenes import PALETTE, Track
from mpgen.world.scoring.fidelity import PSNR_CAP
from mpgen.world.scoring.video import VideoScores, score_video
from mpgen.world.truth import build_truth


def score(story, frames=None, context_frames=1) -> VideoScores:
    return score_video(story.frames if frames is None else frames, story.truth, story.frames, context_frames, 16)


def redrawn(story, role: str, **changes) -> np.ndarray:
    """The video with the tracks of one role changed; a change is a value or a function of the track."""

    def change(track: Track) -> Track:
        values = {key: value(track) if callable(value) else value for key, value in changes.items()}
        return replace(track, **values) if track.role == role else track

    scene = story.scene
    return render_scene(replace(scene, tracks=tuple(change(track) for track in scene.tracks)), 64)


def objects(scores: VideoScores) -> list:
    return [obj for section in scores.sections for obj in section]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_true_video_gets_full_marks(stories, family):
    story = stories[family]
    for context_frames in (1, max(1, story.truth.witness_frames)):
        scores = score(story, context_frames=context_frames)
        assert objects(scores) or (family == "curtain" and context_frames == 1)  # whose first frame shows nothing
        assert all(obj.found == 1 and obj.colour_right and obj.drawn_as_one for obj in objects(scores))
        assert max((obj.position_error_diameters for obj in objects(scores)), default=0.0) < 0.1
        assert all(0.8 < obj.area_ratio < 1.25 for obj in objects(scores))
        assert all(obj.moved is not False for obj in objects(scores))
        assert np.nanmin(scores.background_psnr) == PSNR_CAP
        assert scores.background_drift in (0, None)
        assert all(recall.identity_right for recall in scores.recalls)
        assert scores.first_section_right is (True if context_frames == 1 and scores.first_section else None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_video_of_another_decoder_or_codec_is_not_a_fault(stories, family):
    story = stories[family]
    scores = score(story, render_scene(story.scene, 64))
    assert scores.first_section_right is not False
    assert np.nanmin(scores.background_psnr) > 35


def test_families_have_the_scores_they_are_for(stories):
    witness = {
        family: score(story, context_frames=max(1, story.truth.witness_frames)) for family, story in stories.items()
    }
    assert [len(witness[family].recalls) for family in ("occlude", "panback", "steady", "bounce")] == [1, 0, 0, 0]
    assert [witness[f].revisits is not None for f in ("occlude", "panback", "steady", "bounce")] == [
        False,
        True,
        False,
        False,
    ]
    assert np.isfinite(witness["steady"].chart_error).all()
    assert np.isnan(witness["bounce"].chart_error).all()
    assert witness["occlude"].recalls[0].witnessed
    assert not score(stories["occlude"]).recalls[0].witnessed


def test_a_swapped_colour_is_not_found_and_leaves_the_background_alone(stories):
    story = stories["steady"]
    (true,) = story.scene.tracks
    wrong = next(colour for colour in PALETTE if colour != true.colour)
    scores = score(story, redrawn(story, "mover", colour=wrong))
    assert [obj.found for obj in objects(scores)] == [0] * len(objects(scores))
    assert scores.first_section_right is False
    assert scores.first_section[0].position_error_diameters == pytest.approx(64 * 2**0.5 / (2 * 0.11 * 64))
    assert np.nanmin(scores.background_psnr) > 35
    assert scores.chart_error.max() < 2


def test_an_object_two_diameters_off_has_the_right_colour_in_the_wrong_place(stories):
    story = stories["occlude"]
    shift = 4 * 0.11
    scores = score(story, redrawn(story, "distractor", y=lambda track: (track.y + shift) % 1))
    (first,) = scores.first_section
    assert first.found > 0.5
    assert first.colour_right
    assert first.position_error_diameters > 1
    assert not first.drawn_as_one
    assert scores.first_section_right is False


def test_a_double_of_an_object_is_not_one_object(stories):
    story = stories["steady"]
    (track,) = story.scene.tracks
    double = replace(track, x=(track.x + 0.4) % 1, y=(track.y + 0.4) % 1)
    frames = render_scene(replace(story.scene, tracks=(track, double)), 64)
    assert score(story, frames).first_section[0].found < 0.5


def test_a_removed_object_is_forgotten_and_nothing_else_is_wrong(stories):
    story = stories["occlude"]
    frames = redrawn(story, "target", x=lambda track: track.x + 9)
    context = story.truth.witness_frames
    frames[:context] = story.frames[:context]
    (recall,) = score(story, frames, context).recalls
    assert (recall.seen_colour, recall.colour_right, recall.identity_right) == (None, False, False)
    assert recall.self_consistent is False
    assert all(obj.found == 1 for obj in objects(score(story, frames, context)) if obj.object_id == 0)


@pytest.mark.parametrize(("key", "colour_right"), [("colour", False), ("shape", True)])
def test_an_object_that_comes_out_as_another_is_seen_as_that(stories, key, colour_right):
    story = stories["occlude"]
    target = next(track for track in story.scene.tracks if track.role == "target")
    taken = {getattr(track, key) for track in story.scene.tracks}
    other = next(name for name in (PALETTE if key == "colour" else ("square", "ring", "cross")) if name not in taken)
    frames = redrawn(story, "target", **{key: other})
    context = story.truth.witness_frames
    frames[:context] = story.frames[:context]
    (recall,) = score(story, frames, context).recalls
    assert recall.colour_right is colour_right
    assert not recall.identity_right
    assert (recall.seen_colour, recall.seen_shape) == (
        (other, target.shape) if key == "colour" else (target.colour, other)
    )
    assert recall.self_consistent is colour_right


def test_an_object_may_come_out_at_another_time_than_in_the_truth(stories):
    story = stories["occlude"]
    truth, context = story.truth, story.truth.witness_frames
    (span,) = truth.hidden_spans
    sooner = (span.first_seen - context) // 2
    assert sooner > 4

    def early(track: Track) -> dict:
        places = {}
        for axis in ("x", "y"):
            place = getattr(track, axis)
            places[axis] = np.concatenate([place[:context], place[context + sooner :], np.full(sooner, place[-1])])
        return places

    target = next(track for track in story.scene.tracks if track.role == "target")
    (recall,) = score(story, redrawn(story, "target", **early(target)), context).recalls
    (on_time,) = score(story, context_frames=context).recalls
    assert recall.came_back
    assert recall.identity_right
    assert recall.hidden_seconds == pytest.approx(on_time.hidden_seconds - sooner / truth.fps, abs=2 / truth.fps)
    (never,) = score(
        story,
        redrawn(story, "target", x=lambda track: np.where(np.arange(len(track.x)) < context, track.x, 9.0)),
        context,
    ).recalls
    assert not never.came_back


def test_a_video_that_invents_its_own_hidden_object_is_judged_against_itself(stories):
    story = stories["occlude"]
    taken = {track.colour for track in story.scene.tracks}
    other = next(colour for colour in PALETTE if colour not in taken)
    (recall,) = score(story, redrawn(story, "target", colour=other)).recalls
    assert not recall.witnessed
    assert not recall.colour_right
    assert recall.self_consistent


@pytest.mark.parametrize("family", ["steady", "bounce", "occlude"])
def test_a_frozen_frame_is_not_counted_as_motion(stories, family):
    story = stories[family]
    frozen = np.repeat(story.frames[:1], len(story.frames), 0)
    scores = score(story, frozen)
    assert all(obj.found == 1 for obj in scores.first_section)
    assert not any(obj.moved for obj in scores.first_section)
    assert max(obj.position_error_diameters for obj in objects(scores)) > 1
    assert np.nanmean(scores.background_psnr) > 40


def test_a_camera_that_never_comes_back_fails_the_place(stories):
    story = stories["panback"]
    farthest = story.truth.witness_frames
    stuck = story.frames.copy()
    stuck[farthest:] = story.frames[farthest - 1]
    right, wrong = score(story, context_frames=farthest).revisits, score(story, stuck, farthest).revisits
    assert right.psnr_to_first_visit > 38
    assert right.landmarks_found == 1
    assert wrong.psnr_to_first_visit < 25
    assert wrong.psnr_to_truth < 25
    assert wrong.landmarks_found == 0


def test_a_picture_that_darkens_drifts_and_keeps_its_objects(stories):
    story = stories["steady"]
    gain = np.linspace(1, 0.7, len(story.frames))[:, None, None, None]
    scores = score(story, np.rint(story.frames * gain).astype(np.uint8))
    assert scores.background_drift < -10
    assert scores.chart_drift > 10
    assert all(obj.drawn_as_one for obj in objects(scores))


def test_what_the_camera_has_not_shown_yet_is_no_background_to_keep(stories):
    story = stories["panback"]
    farthest = story.truth.witness_frames - 1
    blind, told = score(story), score(story, context_frames=farthest)
    assert np.isnan(blind.background_psnr[farthest - 1])
    assert np.isfinite(told.background_psnr).all()


def test_only_generated_frames_are_judged(stories):
    story = stories["bounce"]
    frames = story.frames.copy()
    frames[:40] = 0
    scores = score(story, frames, context_frames=40)
    assert all(obj.drawn_as_one for obj in objects(scores))
    assert len(scores.background_psnr) == len(frames) - 40
    assert scores.first_section == ()
    assert len(scores.sections) == int(np.ceil((len(frames) - 40) / 16))


def test_a_longer_video_is_judged_up_to_the_end_of_its_truth(stories):
    story = stories["bounce"]
    longer = np.concatenate([story.frames, np.zeros_like(story.frames[:9])])
    assert score(story, longer).pixel_frames == story.truth.num_frames
    assert score(story, longer).background_drift == 0


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        (np.zeros((9, 32, 64, 3), np.uint8), {}, "64x32.*64x64"),
        (np.zeros((9, 64, 64, 3), np.uint8), {"context_frames": 9}, "too short"),
        (np.zeros((9, 64, 64, 3), np.uint8), {"context_frames": 0}, "context_frames 0"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(stories, frames, options, words):
    story = stories["bounce"]
    with pytest.raises(UserError, match=words) as error:
        score_video(frames, story.truth, story.frames, **options)
    assert "\n" not in str(error.value)


def test_a_neighbour_across_is_not_taken_for_what_hid(stories):
    scene = stories["curtain"].scene
    places = [(0.44, 0.41), (0.65, 0.20)]  # 0.3 apart, and less than a diameter in each direction
    tracks = tuple(
        replace(track, x=np.full_like(track.x, x), y=np.full_like(track.y, y))
        for track, (x, y) in zip(scene.tracks[: len(places)], places, strict=True)
    )
    scene = replace(scene, tracks=tracks)
    chunks = list(render_chunks(scene, 64))
    truth = build_truth("near", scene, np.concatenate([chunk.visible for chunk in chunks]), 64)
    frames = np.concatenate([chunk.frames for chunk in chunks])
    scores = score_video(frames, truth, frames, context_frames=truth.witness_frames)
    assert len(scores.recalls) >= 2
    assert all(recall.identity_right for recall in scores.recalls)
