"""Laws of what is measured in a clip; films are those of the dirty world."""

import json
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from av.filter import Graph
from dirty.films import walk, write_film
from hypothesis import given
from hypothesis import strategies as st

from mpgen.data.curate.scores import FPS, ClipScores, Meter, blur, largest_block_mean, spans_of, to_luma, without_spikes
from mpgen.data.curate.shots import ShotDetectors
from mpgen.data.curate.survey import survey_clip


def vmaf_motion(path) -> list[float]:
    """FFmpeg's own, of every frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = Graph()
        source = graph.add_buffer(template=stream)
        meter, sink = graph.add("vmafmotion"), graph.add("buffersink")
        source.link_to(meter)
        meter.link_to(sink)
        graph.configure()
        scores = []
        for frame in container.decode(stream):
            graph.push(frame)
            scores.append(float(graph.pull().metadata["lavfi.vmafmotion.score"]))
    return scores


def luma_planes(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray()[: frame.height].astype(np.float32) for frame in container.decode(video=0)]


def test_motion_is_that_of_ffmpegs_vmafmotion(tmp_path):
    noise = np.random.default_rng(1).integers(-20, 21, (9, 48, 64, 3))
    path = tmp_path / "a.mp4"
    write_film(path, (walk(9, 48, 64) + noise).clip(0, 255).astype(np.uint8))
    blurred = [blur(luma) for luma in luma_planes(path)]
    ours = [0.0, *(float(np.abs(new - old).mean()) for old, new in pairwise(blurred))]
    assert ours[1] > 1
    assert ours == pytest.approx(vmaf_motion(path), rel=0.01)


def test_luma_is_on_the_scale_of_video(tmp_path):
    path = tmp_path / "a.mp4"
    write_film(path, walk(2, 48, 64), options={"crf": "1"})
    with av.open(str(path)) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(to_luma(rgb) - luma_planes(path)[0]).mean() < 1.5  # swscale rounds down
    assert to_luma(np.zeros((1, 1, 3), np.uint8)) == 16
    assert to_luma(np.full((1, 1, 3), 255, np.uint8)) == pytest.approx(235)


def test_a_small_subject_moves_a_block_but_hardly_the_picture():
    difference = np.zeros((144, 256), np.float32)
    difference[36:54, 64:96] = 10.0  # one block of 8x8
    assert largest_block_mean(difference) == pytest.approx(10.0)
    assert difference.mean() < 0.2


def test_a_cut_and_a_flash_are_no_motion_but_every_second_or_third_frame_is():
    pan = [3.0] * 20
    assert without_spikes([*pan[:10], 90.0, *pan[10:]]).max() == 3.0
    assert without_spikes([*pan[:10], 90.0, 91.0, *pan[10:]]).max() == 3.0
    assert without_spikes([4.0, 0.0] * 10).mean() == 2.0
    assert without_spikes([*[6.0, 0.0, 0.0] * 10, 6.0]).sum() == 66.0


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
def test_spans_are_the_runs_that_are_long_enough(holds, shortest):
    spans = spans_of(np.array(holds, bool), shortest)
    inside = {frame for first, end in spans for frame in range(first, end)}
    runs = "".join("x" if held else " " for held in holds).split()
    assert len(inside) == sum(len(run) for run in runs if len(run) >= shortest)
    assert all(holds[frame] for frame in inside)


def measured(frames: np.ndarray) -> dict[str, tuple]:
    meter = Meter()
    for index, frame in enumerate(frames):
        meter.see(index, frame)
    return meter.found()


def test_a_freeze_is_found_though_keyframes_jump_and_a_cartoon_is_none():
    frames = walk(72, 144, 256)
    still = frames[:1].repeat(60, 0).copy()
    still[::24] += 4
    ((first, end),) = measured(np.concatenate([frames[:24], still]))["freezes"]
    assert 24 <= first <= 28
    assert end == 84
    assert measured(walk(24, 144, 256).repeat(3, 0))["freezes"] == ()


def test_borders_are_measured_and_a_dark_scene_is_not_all_border():
    frames = walk(30, 144, 256)
    frames[:, :18] = frames[:, :, -32:] = 0
    assert measured(frames)["bars"] == (0.125, 0.0, 0.0, 0.125)
    assert measured(np.zeros((30, 144, 256, 3), np.uint8))["bars"] == (0.0, 0.0, 0.0, 0.0)
    assert measured(np.zeros((30, 144, 256, 3), np.uint8))["blacks"] == ((0, 30),)


def test_curves_have_a_value_for_each_second():
    found = measured(walk(50, 144, 256))
    assert len(found["luma"]) == 3
    assert len(found["motion"]) == len(found["motion_low"]) == len(found["local_motion"]) == 3
    assert measured(walk(1, 144, 256))["motion"] == ()


def cuts_in(frames: np.ndarray) -> dict[str, tuple]:
    detectors = ShotDetectors()
    for index, frame in enumerate(frames):
        detectors.see(index, frame)
    return detectors.found()


def test_cuts_are_found_where_they_are_also_in_the_first_second():
    shots = [walk(20, 144, 256, seed=1), walk(40, 144, 256, seed=7), walk(30, 144, 256, seed=5)]
    assert cuts_in(np.concatenate(shots)) == {"cuts": (20, 60), "soft_cuts": ()}


def test_flashes_and_a_fast_pan_are_no_cuts():
    frames = walk(72, 144, 256, step=12)
    frames[30] = 250
    frames[45:47] = 240
    assert cuts_in(frames) == {"cuts": (), "soft_cuts": ()}


def test_a_clip_cut_out_of_a_file_is_measured_in_its_own_time(tmp_path):
    path = tmp_path / "a.mkv"
    moving = walk(48)
    still = moving[-1:].repeat(48, 0)
    write_film(path, np.concatenate([moving, still, walk(48, seed=7)]), range(80, 224), container="matroska")
    scores = survey_clip(path, 1.0, 5.0, [Meter(), ShotDetectors()])
    assert scores.num_frames == 4 * FPS
    assert scores.cuts == (72,)
    ((first, end),) = scores.freezes
    assert 24 <= first <= 28
    assert 68 <= end <= 72


def test_a_pause_of_the_file_is_noted_in_frames(tmp_path):
    path = tmp_path / "a.mp4"
    write_film(path, walk(60), ticks=[*range(30), *range(42, 72)])
    assert survey_clip(path, 0.5, None, []).gaps == ((18, 30),)


def test_a_span_longer_than_the_file_is_used_as_far_as_it_goes(tmp_path):
    path = tmp_path / "a.mp4"
    write_film(path, walk(60), time_base=Fraction(1, 24))
    scores = survey_clip(path, 0.5, 9.0, [])
    assert (scores.num_frames, scores.flags) == (48, ("shorter_than_listed",))


def test_scores_come_back_from_json(tmp_path):
    path = tmp_path / "a.mp4"
    write_film(path, np.concatenate([walk(30), walk(30, seed=7)]))
    scores = survey_clip(path, 0, None, [Meter(), ShotDetectors()])
    assert ClipScores.from_json(json.loads(scores.to_json())) == scores
