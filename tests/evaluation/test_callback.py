"""Laws of the scores in TensorBoard: each half of a sample video is scored by itself, and a bad file ends nothing."""

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mpgen.evaluation.callback import SampleScores, score_samples, split_traces
from mpgen.evaluation.drift import DriftSettings
from mpgen.training.callbacks.samples import SampleVideos


def pair(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left, np.full_like(left[:, :, :2], 255), right], 2)


def test_the_halves_are_scored_apart(write_tagged, moving, tmp_path):
    path = write_tagged(tmp_path / "a.mp4", pair(moving(20), np.repeat(moving(1) // 2, 20, 0)))
    truth, ours = split_traces(path)
    assert ours["luminance"].values.mean() == pytest.approx(truth["luminance"].values.mean() / 2, rel=0.05)
    assert ours["motion"].values.max() < 0.003 < truth["motion"].values.min()


def test_means_over_the_samples_and_their_truth(write_tagged, moving, tmp_path):
    for number, fade in enumerate((0.2, 0.6)):
        write_tagged(tmp_path / f"{number}.mp4", pair(moving(20), moving(20, fade=fade)))
    scores = score_samples(tmp_path, DriftSettings())
    assert scores["drift/luminance"] < -0.1
    assert abs(scores["drift/luminance_truth"]) < 0.01
    assert 0 < scores["scores/structure"] <= 1


def test_a_broken_sample_is_a_warning_and_none_is_nothing(write_tagged, moving, tmp_path):
    assert score_samples(tmp_path, DriftSettings()) == {}
    write_tagged(tmp_path / "a.mp4", pair(moving(9), moving(9)))
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.warns(UserWarning, match=r"b\.mp4"):
        assert "scores/luminance" in score_samples(tmp_path, DriftSettings())


def test_a_run_logs_them_at_its_step(fit, make_module, make_small_data, tmp_path):
    callbacks = [SampleVideos(num_videos=1, steps=1), SampleScores()]
    logger = TensorBoardLogger(tmp_path, name="logs")
    options = {"limit_val_batches": 1, "val_check_interval": 2, "logger": logger}
    fit(make_module(), make_small_data(), tmp_path, 2, callbacks=callbacks, **options)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert {"scores/structure", "drift/luminance", "drift/luminance_truth"} <= set(events.Tags()["scalars"])
    assert events.Scalars("scores/structure")[0].step == 2
