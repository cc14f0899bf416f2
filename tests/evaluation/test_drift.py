"""Laws of scores, drift and traces: VBench's formulas written slowly, and what must not change a number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpgen.errors import UserError
from mpgen.evaluation.drift import DriftSettings, drift, segments
from mpgen.evaluation.long_clips import clips
from mpgen.evaluation.metrics import choose
from mpgen.evaluation.scores import Score
from mpgen.evaluation.sidecar import Generated, read_sidecar
from mpgen.evaluation.statistics import bootstrap, curve, theil_sen
from mpgen.evaluation.trace import Series, Trace, load_trace, save_trace
from mpgen.evaluation.vbench.formulas import flow_threshold_px
from mpgen.evaluation.vbench.metrics import DynamicDegree, ImagingQuality, SubjectConsistency


def trace_of(num_frames: int = 40, fps: float = 24.0, **series: np.ndarray | Series) -> Trace:
    given = {n: s if isinstance(s, Series) else Series.of_every_frame(s) for n, s in series.items()}
    return Trace(fps, num_frames, 480, 832, given)


def features(num_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 1, (num_frames, 7)).astype(np.float32)


def test_consistency_is_vbenchs_loop():
    rows = features(9)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    total = 0.0
    for t in range(1, 9):
        total += (max(0.0, unit[t] @ unit[t - 1]) + max(0.0, unit[t] @ unit[0])) / 2
    score = SubjectConsistency.score(trace_of(9, subject=rows))
    assert score.value == pytest.approx(total / 8, abs=1e-6)
    assert score.frame.tolist() == list(range(1, 9))


def test_a_video_that_stands_still_is_consistent_and_one_frame_has_no_consistency():
    still = trace_of(5, subject=np.tile(features(1), (5, 1)))
    assert SubjectConsistency.score(still).value == pytest.approx(1)
    assert SubjectConsistency.score(trace_of(1, subject=features(1))).value is None


@pytest.mark.parametrize(
    ("pairs", "over", "moves"),
    [(0, 0, 0), (1, 0, 1), (2, 0, 0), (2, 1, 1), (15, 3, 0), (15, 4, 1), (479, 119, 0), (479, 120, 1), (5, 1, 0)],
)
def test_a_video_moves_when_a_quarter_of_its_sampled_frames_do_rounded_half_to_even(pairs, over, moves):
    threshold = flow_threshold_px(480, 832)
    scores = np.where(np.arange(pairs) < over, threshold * 1.01, threshold * 0.99)
    trace = trace_of(3 * pairs + 1, dynamic=Series(scores, np.arange(1, pairs + 1) * 3, (-3,)))
    score = DynamicDegree.score(trace)
    assert threshold == 11.25
    assert score.value == moves
    assert ((score.series > 1).sum(), len(score.series)) == (over, pairs)


def test_taking_frames_is_as_if_the_video_had_only_these():
    rows = features(30)
    trace = trace_of(
        30,
        subject=rows,
        imaging=np.arange(30.0),
        smoothness=Series(np.arange(14.0), np.arange(1, 29, 2), (-1, 1)),
        dynamic=Series(np.arange(9.0), np.arange(3, 30, 3), (-3,)),
    )
    part = trace.take(np.arange(10, 20))
    cut = trace_of(10, subject=rows[10:20])
    assert SubjectConsistency.score(part).value == SubjectConsistency.score(cut).value
    assert part["imaging"].values.tolist() == list(range(10, 20))
    assert part["smoothness"].frame.tolist() == [1, 3, 5, 7]  # frame 19 is guessed from 20, which is gone
    assert part["dynamic"].frame.tolist() == [5, 8]  # 12 comes after 9, which is gone


def test_traces_come_back_from_disk_and_a_damaged_one_is_told(tmp_path):
    trace = trace_of(40, dynamic=Series(features(4), np.arange(3, 15, 3), (-3,)))
    save_trace(trace, "damaged", tmp_path / "t.npz")
    back, note = load_trace(tmp_path / "t.npz")
    np.testing.assert_array_equal(back["dynamic"].values, trace["dynamic"].values)
    assert (back["dynamic"].frame.tolist(), back["dynamic"].others) == ([3, 6, 9, 12], (-3,))
    assert (back.num_frames, back.fps, note) == (40, 24.0, "damaged")
    (tmp_path / "t.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:50])
    with pytest.raises(UserError, match=r"t\.npz"):
        load_trace(tmp_path / "t.npz")


@given(num_frames=st.integers(1, 400), fraction=st.floats(0.01, 0.5), at_least=st.integers(1, 2))
@settings(deadline=None)
def test_the_ends_have_the_frames_of_the_convention(num_frames, fraction, at_least):
    order = np.random.default_rng(num_frames).permutation(num_frames)
    ends = segments(order, fraction, at_least)
    count = max(at_least, int(fraction * num_frames))
    if num_frames < count:
        assert ends is None
        return
    start, end = ends
    assert len(start) == len(end) == count
    assert sorted(order[:count]) == start.tolist()
    assert sorted(order[-count:]) == end.tolist()


def test_a_fade_drifts_down_and_its_reverse_up_by_as_much():
    down = trace_of(100, imaging=np.linspace(80, 40, 100))
    up = trace_of(100, imaging=np.linspace(40, 80, 100))
    fell, rose = (drift(t, ImagingQuality, Generated(), DriftSettings()) for t in (down, up))
    assert fell.delta == pytest.approx(-rose.delta)
    assert fell.delta == pytest.approx(0.4 * -85 / 99)
    assert fell.slope_per_minute == pytest.approx(-0.4 / 99 * 24 * 60)
    assert fell.worst == pytest.approx(curve(ImagingQuality.score(down), 24.0)[1][-1])
    assert rose.worst_seconds < 1 < fell.worst_seconds


def test_a_fault_in_the_middle_has_no_delta_but_is_the_worst_second():
    scores = np.full(240, 70.0)
    scores[96:144] = 10
    found = drift(trace_of(240, imaging=scores), ImagingQuality, Generated(), DriftSettings())
    assert found.delta == 0
    assert found.worst == pytest.approx(0.1)
    assert 4 < found.worst_seconds < 6


def test_given_frames_are_no_start_and_the_last_made_is_the_end():
    scores = np.concatenate([np.full(20, 99.0), np.full(50, 60.0), np.full(50, 40.0)])
    trace = trace_of(120, imaging=scores)
    forward = drift(trace, ImagingQuality, Generated(given=20), DriftSettings())
    backward = drift(trace, ImagingQuality, Generated(((70, 120), (20, 70))), DriftSettings())
    assert (forward.start, forward.end) == pytest.approx((0.6, 0.4))
    assert (backward.start, backward.end) == pytest.approx((0.4, 0.6))


def test_an_ends_consistency_is_its_own_unless_told_otherwise():
    rows = features(40)
    trace = trace_of(40, subject=rows)
    own = drift(trace, SubjectConsistency, Generated(), DriftSettings(fraction=0.25))
    cut = SubjectConsistency.score(trace_of(10, subject=rows[30:])).value
    assert own.end == pytest.approx(cut)
    first = drift(trace, SubjectConsistency, Generated(), DriftSettings(fraction=0.25, reference="first"))
    assert first.end == pytest.approx(SubjectConsistency.score(trace).series[-10:].mean())
    assert first.end != own.end
    assert drift(trace_of(2, subject=rows[:2]), SubjectConsistency, Generated(), DriftSettings()) is not None
    assert drift(trace_of(1, subject=rows[:1]), SubjectConsistency, Generated(), DriftSettings()) is None


def test_the_sidecar_says_what_was_made_and_when(tmp_path):
    card, video = tmp_path / "a.json", tmp_path / "a.mp4"
    assert read_sidecar(video).generated.order(3).tolist() == [0, 1, 2]
    card.write_text('{"generated": [[5, 7], [1, 3]]}')
    assert read_sidecar(video).generated.order(6).tolist() == [5, 1, 2]
    card.write_text('{"context_frames": 2, "order": "f1", "section_frames": 4, "num_sections": 3}')
    assert read_sidecar(video).generated.order(5).tolist() == [2, 3, 4]
    assert read_sidecar(video).promised_frames == 14
    card.write_text('{"context_frames": 1, "order": "f0", "section_frames": 2, "num_sections": 3}')
    assert read_sidecar(video).generated.order(7).tolist() == [5, 6, 3, 4, 1, 2]
    for text in (
        "[1]",
        "{",
        '{"generated": [[3, 3]]}',
        '{"generated": 4}',
        '{"context_frames": "x"}',
        '{"order": "f0"}',
    ):
        card.write_text(text)
        with pytest.raises(UserError, match=r"a\.json"):
            read_sidecar(video)
    card.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"a\.json"):
        read_sidecar(video)


def test_nothing_can_lie_beside_a_name_of_255_bytes(tmp_path):
    assert read_sidecar(tmp_path / f"{'x' * 251}.mp4").promised_frames is None


def test_curves_are_means_of_windows_and_keep_every_frame():
    score = Score(None, np.arange(100.0), np.arange(100))
    seconds, means = curve(score, 24.0)
    assert means.tolist() == [
        np.mean(range(24)),
        np.mean(range(24, 48)),
        np.mean(range(48, 72)),
        np.mean(range(72, 100)),
    ]
    assert seconds == pytest.approx(means / 24)
    assert [len(part) for part in curve(Score(None, np.zeros(0), np.zeros(0, int)), 24.0)] == [0, 0]


def test_a_wild_point_does_not_pull_the_slope():
    x = np.arange(20.0)
    y = 3 * x + 1
    y[7] = 1e6
    assert theil_sen(x, y) == pytest.approx(3)
    assert theil_sen(x[:1], y[:1]) is None


def test_the_interval_covers_the_mean_and_is_repeatable():
    values = np.random.default_rng(1).normal(5, 1, 50).tolist()
    low, high = bootstrap(values)
    assert low < np.mean(values) < high
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(values) / 50**0.5, rel=0.1)
    assert bootstrap(values) == (low, high)
    assert bootstrap([1.0]) is None


@given(num_frames=st.integers(1, 300), fps=st.sampled_from([8.0, 23.976, 24.0, 30.0]))
@settings(deadline=None)
def test_clips_cover_every_frame_and_are_equally_long(num_frames, fps):
    cut = clips(num_frames, fps)
    length = 2 * int(fps)
    assert set(np.concatenate(cut).tolist()) == set(range(num_frames))
    assert {len(clip) for clip in cut} == {min(length, num_frames)}


def test_metrics_are_named_one_by_one_or_together():
    assert [d.name for d in choose(("subject", "imaging", "imaging"))] == ["imaging", "subject"]
    assert len(choose(("vbench",))) == 6
    with pytest.raises(UserError, match=r"imagin'.*imaging"):
        choose(("imagin",))


def test_half_is_the_largest_end():
    with pytest.raises(UserError, match=r"0\.6"):
        DriftSettings(fraction=0.6)
