"""Our scores against what VBench's own functions gave for the same pixels and the same weights.

The numbers are in fixtures/vbench.json, which tools/make_vbench_fixture.py writes.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mpgen.evaluation.frames import Probe
from mpgen.evaluation.metric import measure
from mpgen.evaluation.metrics import METRICS
from mpgen.evaluation.scores import Score
from mpgen.evaluation.vbench.formulas import flow_threshold_px
from mpgen.evaluation.vbench.frame_probes import AestheticProbe, BackgroundProbe, ImagingProbe, SubjectProbe
from mpgen.evaluation.vbench.motion_probes import DynamicProbe, SmoothnessProbe
from mpgen.evaluation.vbench.precision import prepared

# MUSIQ takes most of a second a frame and looks at each by itself: of two clips a few frames are enough.
SOME = {("imaging", "landscape"): slice(None, None, 4), ("imaging", "portrait"): slice(None, None, 3)}
TOLERANCE = 1e-5  # of full scale; 1e-4 is what was asked for
ROOT = Path(__file__).parents[3]
EXPECTED = json.loads((Path(__file__).parent / "fixtures/vbench.json").read_text())["scores"]


def load_tool():
    spec = importlib.util.spec_from_file_location("make_vbench_fixture", ROOT / "tools/make_vbench_fixture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clips() -> dict[str, tuple[np.ndarray, float]]:
    return load_tool().made_clips()


@pytest.fixture(scope="module")
def probes() -> dict[str, Probe]:
    networks = {name: prepared(network, "fp32") for name, network in load_tool().made_networks().items()}
    return {
        "subject": SubjectProbe(networks["dino"]),
        "background": BackgroundProbe(networks["clip"]),
        "aesthetic": AestheticProbe(networks["clip"], networks["head"]),
        "imaging": ImagingProbe(networks["musiq"]),
        "dynamic": DynamicProbe(networks["raft"]),
        "smoothness": SmoothnessProbe(networks["amt"]),
    }


def score(probes: dict[str, Probe], clips: dict, dimension: str, clip: str) -> Score:
    pixels, fps = clips[clip]
    pixels = torch.from_numpy(pixels[SOME.get((dimension, clip), slice(None))]).permute(0, 3, 1, 2)
    return METRICS[dimension].score(measure(probes[dimension], pixels, fps, chunk_frames=4))


@pytest.mark.parametrize("clip", sorted(EXPECTED))
@pytest.mark.parametrize("dimension", ["subject", "background", "aesthetic", "imaging", "smoothness"])
def test_scores_are_vbenchs_per_frame_and_per_video(probes, clips, dimension, clip):
    full_scale = 100 if dimension == "imaging" else 1
    some = SOME.get((dimension, clip))
    frames = np.array(EXPECTED[clip][dimension]["frames"])[some or slice(None)] / full_scale
    video = EXPECTED[clip][dimension]["video"] / full_scale if some is None else frames.mean()
    ours = score(probes, clips, dimension, clip)
    np.testing.assert_allclose(ours.series, frames, atol=TOLERANCE, rtol=0)
    assert ours.value == pytest.approx(video, abs=TOLERANCE, rel=0)


@pytest.mark.parametrize("clip", sorted(EXPECTED))
def test_motion_is_vbenchs_per_pair_and_whether_a_video_moves(probes, clips, clip):
    expected = EXPECTED[clip]["dynamic"]
    ours = score(probes, clips, "dynamic", clip)
    threshold = flow_threshold_px(*clips[clip][0].shape[1:3])
    np.testing.assert_allclose(ours.series * threshold, expected["frames"], rtol=1e-4)
    assert ours.value == expected["video"]


def test_the_fixture_can_tell_right_from_wrong():
    """Scores that are all alike, or all at an end of their scale, would agree with anything."""
    for dimension, spread in (("subject", 1e-2), ("background", 1e-2), ("aesthetic", 1e-2), ("imaging", 1e-2)):
        frames = np.concatenate([EXPECTED[clip][dimension]["frames"] for clip in EXPECTED])
        assert np.ptp(frames) > spread, dimension
        assert (frames != 0).all(), dimension
    guesses = np.concatenate([EXPECTED[clip]["smoothness"]["frames"] for clip in EXPECTED])
    assert ((guesses > 0.05) & (guesses < 0.99)).all()
    assert {EXPECTED[clip]["dynamic"]["video"] for clip in EXPECTED} == {0.0, 1.0}


@pytest.mark.slow
def test_the_fixture_is_what_vbench_says_today(tmp_path):
    """Where VBench and a checkout of facebookresearch/dino (as ./dino) are at hand."""
    pytest.importorskip("vbench")
    if not (ROOT / "dino/vision_transformer.py").is_file():
        pytest.skip("no checkout of facebookresearch/dino in ./dino")
    tool = load_tool()
    made = tool.score_clips(ROOT / "dino")
    for clip, scores in EXPECTED.items():
        for dimension, expected in scores.items():
            assert made[clip][dimension]["video"] == pytest.approx(expected["video"], abs=TOLERANCE)
