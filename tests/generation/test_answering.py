import numpy as np
import torch

from mpgen.generation.answering import answer
from mpgen.generation.pipeline import Job, generate_video
from mpgen.generation.rollout import Sampling
from mpgen.sampling import euler
from mpgen.video.clips import read_video
from mpgen.world.questions import after_hiding, from_the_start
from mpgen.world.settings import WorldSettings

SETTINGS = WorldSettings(size_px=32, fps=8, families={"curtain": 1.0, "bounce": 1.0})
SAMPLING = Sampling(euler, 2, 1.0, 1.0, 0)


def test_questions_are_answered_in_their_order_after_what_is_given(model):
    questions = [*after_hiding(SETTINGS, 2, 8, (0.5, 2.0)), *from_the_start(SETTINGS, 2, 8, 2.0)]
    made = answer(model.denoiser, model.encoders, questions, SAMPLING)
    for question, video in zip(questions, made, strict=True):
        assert video.shape == question.frames.shape
        np.testing.assert_array_equal(video[: question.given], question.frames[: question.given])
        assert not np.array_equal(video, question.frames)


def test_an_answer_is_what_generate_makes(model, tmp_path):
    (question,) = after_hiding(SETTINGS, 1, 8, (0.5, 2.0))
    (made,) = answer(model.denoiser, model.encoders, [question], SAMPLING)
    known = question.frames[1 : question.given]
    job = Job(question.truth.caption, question.frames[0], known, question.num_asked, tmp_path / "out.mp4")
    with torch.no_grad():
        generate_video(model, job, SAMPLING, progress=False)
    assert np.abs(read_video(job.output).astype(int) - made).mean() < 4  # H.264
