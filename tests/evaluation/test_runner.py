"""Laws of a run: nothing is looked at twice, one fault costs one thing, and the number of processes changes nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from processes import SERVER

from mpgen.errors import UserError
from mpgen.evaluation import processes, runner
from mpgen.evaluation.drift import DriftSettings
from mpgen.evaluation.film_strip import STRIP
from mpgen.evaluation.frames import Frames, Probe
from mpgen.evaluation.metric import ProbeSource
from mpgen.evaluation.processes import run
from mpgen.evaluation.proxies import PROXIES, Luminance
from mpgen.evaluation.results import Scoring, VideoResult
from mpgen.evaluation.runner import Evaluator, Plan
from mpgen.evaluation.suite import Skipped, find_videos
from mpgen.evaluation.trace import Series
from mpgen.evaluation.vbench.metrics import ImagingQuality

CPU = torch.device("cpu")


class Counting(Probe):
    """The frames' numbers, and how often it was begun; it cannot bear frames higher than 40 px."""

    name = "imaging"
    begun = 0

    def begin(self, fps: float, height_px: int, width_px: int) -> None:
        Counting.begun += 1
        if height_px > 40:
            raise UserError(f"frames of {height_px} px are too high")
        self.rows: list[float] = []

    def feed(self, frames: Frames) -> None:
        self.rows += range(frames.first, frames.first + len(frames.pixels))

    def finish(self) -> Series:
        return Series.of_every_frame(np.array(self.rows, np.float32))


def make_broken() -> Probe:
    raise UserError("w.pth does not fit")


COUNTING = ProbeSource("imaging", "version 1", Counting)
WEIGHT_FREE = (*(proxy.probe_source(None, "fp32") for proxy in PROXIES), STRIP)


@pytest.fixture
def videos(write, moving, tmp_path):
    for number, frames in enumerate((moving(30), moving(12, fade=0.5), moving(20, 64, 64))):
        write(tmp_path / "videos" / "ours" / f"v{number}.mp4", frames)
    return find_videos(tmp_path / "videos", tmp_path / "out")[0]


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "out").mkdir()
    scoring = Scoring((*PROXIES, ImagingQuality), DriftSettings())
    return Plan((*WEIGHT_FREE, COUNTING), scoring, tmp_path / "out", "tagged", 8, tmp_path / "out" / "results.jsonl")


def test_one_decode_feeds_every_probe_and_a_rerun_decodes_nothing(plan, videos, count_calls):
    decodes = count_calls(runner, "FrameStream")
    first = Evaluator(plan, CPU)(videos[0])
    assert len(decodes) == 1
    assert first.scores["imaging"].value == pytest.approx(np.mean(range(30)) / 100)
    again = Evaluator(plan, CPU)(videos[0])
    assert len(decodes) == 1
    assert again.record() == first.record()
    np.testing.assert_array_equal(again.strip, first.strip)


def test_a_new_probe_and_new_weights_look_anew_and_alone(plan, videos, count_calls):
    saved = count_calls(runner, "save_trace")
    Evaluator(replace(plan, sources=WEIGHT_FREE), CPU)(videos[0])
    Evaluator(plan, CPU)(videos[0])
    assert len(saved) == len(WEIGHT_FREE) + 1
    Evaluator(replace(plan, sources=(*WEIGHT_FREE, replace(COUNTING, identity="other weights"))), CPU)(videos[0])
    assert len(saved) == len(WEIGHT_FREE) + 2


def test_a_renamed_video_is_known_and_a_changed_one_is_not(plan, videos, count_calls, write, moving):
    decodes = count_calls(runner, "FrameStream")
    evaluator = Evaluator(plan, CPU)
    evaluator(videos[0])
    moved = videos[0].path.rename(videos[0].path.with_name("other.mp4"))
    assert evaluator(replace(videos[0], path=moved, name="other")).name == "other"
    assert len(decodes) == 1
    write(moved, moving(10, seed=5))
    evaluator(replace(videos[0], path=moved))
    assert len(decodes) == 2


def test_a_probe_that_fails_costs_its_own_scores_only(plan, videos):
    result = Evaluator(plan, CPU)(videos[2])
    assert result.failed == {"imaging": "frames of 64 px are too high"}
    assert "imaging" not in result.scores
    assert result.scores["structure"].value > 0.5


def test_weights_that_do_not_fit_are_tried_once(plan, videos, count_calls):
    broken = replace(plan, sources=(*WEIGHT_FREE, replace(COUNTING, make=make_broken)))
    evaluator = Evaluator(broken, CPU)
    results = [evaluator(video) for video in videos]
    assert {result.failed["imaging"] for result in results} == {"w.pth does not fit"}
    assert all("structure" in result.scores for result in results)


def test_a_broken_video_is_listed_and_written_down(plan, videos, tmp_path):
    videos[0].path.write_bytes(b"no video")
    done = list(run(plan, videos, ["cpu"], int))
    assert [type(one) for one in done] == [Skipped, VideoResult, VideoResult]
    lines = [json.loads(line) for line in plan.log.read_text().splitlines()]
    assert "v0.mp4" in lines[0]["reason"]
    assert lines[1]["scores"]["luminance"] > 0


def test_a_half_written_trace_is_told_and_the_others_go_on(plan, videos):
    Evaluator(plan, CPU)(videos[0])
    trace = next(plan.folder.glob("traces/*-structure-*.npz"))
    trace.write_bytes(trace.read_bytes()[:100])
    first, second, _ = run(plan, videos, ["cpu"], int)
    assert trace.name in first.reason
    assert isinstance(second, VideoResult)


def test_two_processes_give_what_one_gives(plan, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "get_context", lambda kind: SERVER)  # as fresh, and the imports are there
    plan = replace(plan, sources=WEIGHT_FREE, scoring=replace(plan.scoring, metrics=PROXIES))
    alone = {one.name: one.record() for one in run(plan, videos, ["cpu"], int)}
    other = replace(plan, folder=tmp_path / "two", log=tmp_path / "two.jsonl")
    together = {one.name: one.record() for one in run(other, videos, ["cpu", "cpu"], int)}
    assert together.keys() == alone.keys()
    for name, record in together.items():
        assert record["scores"] == pytest.approx(alone[name]["scores"], rel=1e-4)  # another number of threads
        assert (record["sha256"], record["num_frames"]) == (alone[name]["sha256"], alone[name]["num_frames"])
    assert len(other.log.read_text().splitlines()) == 3


def test_long_averages_clips_of_two_seconds(plan, write, moving, tmp_path):
    video = find_videos(write(tmp_path / "l" / "a.mp4", moving(100)).parent, tmp_path / "out")[0][0]
    scoring = Scoring((Luminance, ImagingQuality), DriftSettings(), long=True)
    result = Evaluator(replace(plan, scoring=scoring), CPU)(video)
    clips = [range(48), range(48, 96), range(52, 100)]
    assert result.scores["imaging"].value == pytest.approx(np.mean([np.mean(clip) for clip in clips]) / 100)
