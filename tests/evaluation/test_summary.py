"""Laws of sums over videos: groups, weights, intervals and the order of the worst."""

from pathlib import Path

import numpy as np
import pytest

from mpgen.evaluation.drift import Drift
from mpgen.evaluation.proxies import Luminance
from mpgen.evaluation.results import Curve, VideoResult
from mpgen.evaluation.scores import Score
from mpgen.evaluation.suite import Video
from mpgen.evaluation.summary import mean_curve, shown, summarise, worst_first
from mpgen.evaluation.vbench.metrics import SubjectConsistency


def result(name: str, score: float, num_frames: int = 240, method: str = "ours", delta: float = 0.0) -> VideoResult:
    windows = num_frames // 24
    curve = Curve(np.arange(windows) + 0.5, np.full(windows, score))
    return VideoResult(
        video=Video(Path(name), name, method),
        sha256="",
        fps=24.0,
        num_frames=num_frames,
        height_px=32,
        width_px=48,
        note="",
        failed={},
        scores={"subject": Score(score, np.full(num_frames - 1, score), np.arange(1, num_frames))},
        drifts={"subject": Drift(delta, score, score + delta, None, 0.0, score)},
        curves={"subject": curve},
        strip=np.zeros((0, 1, 1, 3), np.uint8),
        strip_frames=(),
    )


def test_groups_are_methods_and_lengths_in_order():
    results = [result("a", 0.9, 1440), result("b", 0.8), result("c", 0.7, method="f1")]
    groups = summarise(results, [SubjectConsistency])
    assert [(g.method, g.length, g.videos) for g in groups] == [
        ("f1", "10 s", 1),
        ("f1", "all", 1),
        ("ours", "10 s", 1),
        ("ours", "60 s", 1),
        ("ours", "all", 2),
    ]


def test_a_method_of_one_length_is_shown_once():
    groups = shown(
        summarise([result("a", 0.9, 1440), result("b", 0.8), result("c", 0.7, method="f1")], [SubjectConsistency])
    )
    assert [group.title for group in groups] == ["f1 10 s", "ours 10 s", "ours 60 s", "ours all"]


def test_frames_weigh_only_where_they_do_in_vbench():
    results = [result("a", 0.9, 1440), result("b", 0.8, 240)]
    by_video, by_frame = (
        summarise(results, [SubjectConsistency], how)[-1].scores["subject"].mean for how in ("video", "frame")
    )
    assert by_video == pytest.approx(0.85)
    assert by_frame == pytest.approx((0.9 * 1439 + 0.8 * 239) / 1678)


def test_drift_is_the_mean_of_absolute_values_and_the_signed_one_stands_beside():
    group = summarise([result("a", 0.9, delta=0.2), result("b", 0.9, delta=-0.1)], [SubjectConsistency])[-1]
    assert group.drifts["subject"].mean == pytest.approx(0.15)
    assert group.signed_drifts["subject"].mean == pytest.approx(0.05)
    assert group.drifts["subject"].count == 2
    assert group.drifts["subject"].low <= 0.15 <= group.drifts["subject"].high


def test_one_video_has_no_interval_and_no_video_no_cell():
    group = summarise([result("a", 0.9)], [SubjectConsistency, Luminance])[-1]
    assert group.scores["subject"].low is None
    assert "luminance" not in group.scores


def test_low_scores_and_large_drifts_come_first():
    results = [result("good", 0.9), result("bad", 0.5, delta=-0.3), result("middling", 0.7, delta=0.1)]
    assert [r.name for r in worst_first(results, [SubjectConsistency, Luminance])] == ["bad", "middling", "good"]


def test_a_mean_curve_goes_on_while_half_of_the_videos_do():
    curve = mean_curve([result("a", 0.9, 480), result("b", 0.7, 240), result("c", 0.5, 240)], "subject")
    assert curve.means == pytest.approx([0.7] * 10)
    assert curve.spread == pytest.approx([1.96 * np.std([0.9, 0.7, 0.5], ddof=1) / 3**0.5] * 10)
    assert mean_curve([result("a", 0.9)], "luminance") is None
