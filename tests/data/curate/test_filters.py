"""Laws of choosing segments: pure, so they are tried on any scores there can be."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpgen.data.curate.commands.filter import _held_out
from mpgen.data.curate.filters import Thresholds, count_dynamic, verdict
from mpgen.data.curate.scores import FPS, ClipScores
from mpgen.errors import UserError
from mpgen.sections import count_sections

PLAIN = Thresholds(height_px=96, width_px=160, section_latent_frames=3, max_seconds=5, stride_seconds=6)


def scores_of(num_frames: int, motion: float = 3.0, local: float = 9.0, **found) -> ClipScores:
    seconds = -(-(num_frames - 1) // FPS)
    flat = {"motion": (motion,) * seconds, "motion_low": (motion / 2,) * seconds, "local_motion": (local,) * seconds}
    plain = ClipScores(num_frames, 96, 160, 24.0, (), "", (), luma=(90.0,) * seconds, **flat)
    return replace(plain, **found)


@st.composite
def any_findings(draw) -> dict:
    """Fields of `ClipScores`, which is made outside: the type checker draws random numbers, hypothesis forbids them."""
    num_frames = draw(st.integers(1, 400))
    seconds = -(-(num_frames - 1) // FPS)
    frame = st.integers(0, num_frames)
    spans = st.lists(st.tuples(frame, frame).map(sorted).map(tuple), max_size=3).map(lambda found: tuple(sorted(found)))
    curve = st.lists(st.floats(0, 30), min_size=seconds, max_size=seconds).map(tuple)
    return {
        "num_frames": num_frames,
        "height_px": 96,
        "width_px": 160,
        "source_fps": 24.0,
        "flags": (),
        "detail": draw(st.sampled_from(["", "is damaged at 3.00 s"])),
        "gaps": draw(spans),
        "cuts": tuple(draw(st.lists(frame, max_size=4).map(sorted))),
        "soft_cuts": tuple(draw(st.lists(frame, max_size=2).map(sorted))),
        "freezes": draw(spans),
        "blacks": draw(spans),
        "motion": draw(curve),
        "motion_low": draw(curve),
        "local_motion": draw(curve),
    }


def spans(scores: ClipScores, thresholds: Thresholds) -> set[tuple[int, int]]:
    return {(segment.first, segment.end) for segment in verdict(scores, thresholds).segments}


@given(any_findings())
def test_segments_lie_in_the_clip_apart_from_each_other_and_are_neither_too_short_nor_too_long(found):
    scores = ClipScores(**found)
    at = 0
    for segment in verdict(scores, PLAIN).segments:
        assert at <= segment.first < segment.end <= scores.num_frames
        assert PLAIN.min_frames <= segment.end - segment.first <= PLAIN.max_frames
        assert segment.num_sections == count_sections(segment.end - segment.first, 12) >= 1
        at = segment.end


@given(any_findings())
def test_no_segment_holds_a_cut_a_gap_black_or_a_freeze(found):
    scores = ClipScores(**found)
    for segment in verdict(scores, PLAIN).segments:
        assert not any(segment.first < cut < segment.end for cut in scores.cuts)
        for first, end in (*scores.gaps, *scores.blacks):
            assert end <= segment.first or segment.end <= first
        for first, end in scores.freezes:
            overlap = min(end, segment.end) - max(first, segment.first)
            assert overlap < PLAIN.min_freeze_seconds * FPS


@given(any_findings(), st.floats(0, 30), st.floats(0, 30), st.integers(0, 20))
def test_asking_for_more_never_adds_a_segment(found, motion, local_motion, sections):
    scores = ClipScores(**found)
    more_motion = replace(PLAIN, min_motion=PLAIN.min_motion + motion)
    more_local = replace(more_motion, min_local_motion=PLAIN.min_local_motion + local_motion)
    longer = replace(more_local, section_latent_frames=min(3 + sections, 29))
    assert spans(scores, PLAIN) >= spans(scores, more_motion) >= spans(scores, more_local) >= spans(scores, longer)


@given(any_findings())
def test_a_clip_that_is_not_used_whole_has_a_line_that_says_why(found):
    scores = ClipScores(**found)
    judged = verdict(scores, PLAIN)
    assert judged.segments or judged.rejections
    assert all(rejection.detail for rejection in judged.rejections)


def test_both_ends_of_each_shot_are_trimmed():
    assert spans(scores_of(100, cuts=(50,)), PLAIN) == {(12, 38), (62, 88)}


def test_a_long_shot_falls_into_pieces_a_stride_apart():
    assert spans(scores_of(400), PLAIN) == {(12, 132), (156, 276), (300, 388)}


def test_a_frozen_tail_goes_and_the_rest_stays():
    assert spans(scores_of(120, freezes=((60, 120),)), PLAIN) == {(12, 60)}


def test_a_still_camera_before_a_small_subject_stays_and_a_still_goes():
    assert spans(scores_of(60, motion=0.04, local=5.0), PLAIN)
    (rejection,) = verdict(scores_of(60, motion=0.04, local=0.1), PLAIN).rejections
    assert (rejection.reason, rejection.detail) == ("static", "motion 0.04 < 0.5 and local motion 0.10 < 2")


def test_motion_is_that_of_the_segments_own_seconds():
    moving_then_still = (3.0, 3.0, 0.0, 0.0)
    scores = replace(scores_of(96, cuts=(48,)), motion=moving_then_still, local_motion=moving_then_still)
    assert spans(scores, PLAIN) == {(12, 36)}


def test_damage_is_used_up_to_it_only_if_that_is_wanted():
    damaged = scores_of(60, flags=("corrupt_stream",), detail="is damaged at 2.50 s")
    kept = verdict(damaged, PLAIN)
    assert [segment.flags for segment in kept.segments] == [("corrupt_stream",)]
    assert [rejection.reason for rejection in kept.rejections] == ["corrupt_stream"]
    assert not verdict(damaged, replace(PLAIN, keep_damaged=False)).segments


def test_a_dissolve_is_a_flag_or_a_cut():
    dissolve = scores_of(100, soft_cuts=(50,))
    assert [segment.flags for segment in verdict(dissolve, PLAIN).segments] == [("soft_cut",)]
    assert spans(dissolve, replace(PLAIN, split_soft_cuts=True)) == {(12, 38), (62, 88)}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"height_px": 160, "width_px": 96}, "portrait"),
        ({"height_px": 48, "width_px": 80}, "low_resolution"),
        ({"bars": (0.1, 0.1, 0.0, 0.0)}, "letterbox"),
    ],
)
def test_a_clip_of_the_wrong_shape_is_not_used(found, reason):
    (rejection,) = verdict(scores_of(60, **found), PLAIN).rejections
    assert rejection.reason == reason


def test_a_portrait_is_used_for_portraits():
    portrait = scores_of(60, height_px=160, width_px=96)
    assert spans(portrait, replace(PLAIN, height_px=160, width_px=96))


def test_vbenchs_dynamic_degree_asks_for_a_quarter_of_the_pairs():
    flow = (4.0,) * 10 + (1.0,) * 30  # 6 of a picture of 256 is 3.375 of 144
    assert count_dynamic(flow, (0, 120), 6.0) == (10, round(4 * 41 / 16))
    assert count_dynamic(flow, (0, 60), 6.0) == (10, round(4 * 21 / 16))
    scores = scores_of(123, flow=flow)
    asked = replace(PLAIN, min_flow=6.0)
    assert not spans(replace(scores, flow=(1.0,) * 40), asked)
    assert spans(replace(scores, flow=(4.0,) * 40), asked)
    with pytest.raises(UserError, match="--raft"):
        verdict(scores_of(60), asked)


def test_thresholds_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match="would overlap"):
        Thresholds(max_seconds=60, stride_seconds=30)
    with pytest.raises(UserError, match="a section alone"):
        Thresholds(max_seconds=1, stride_seconds=30)


@pytest.mark.parametrize(
    ("videos", "asked", "kept"), [(12, None, 1), (2, None, 1), (1, None, 0), (999, None, 32), (9, 3, 3)]
)
def test_validation_is_a_tenth_within_bounds(videos, asked, kept):
    ids = {f"video {number}" for number in range(videos)}
    assert len(_held_out(ids, asked)) == kept
    assert _held_out(ids, asked) < ids
