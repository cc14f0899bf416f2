"""The engine: what it makes is what `mpgen generate` makes; one bad task does not stop the others."""

import json
import threading

import numpy as np
import pytest
from command_line import generate
from PIL import Image

from mpgen.errors import UserError
from mpgen.studio.live import Live
from mpgen.studio.request import Request
from mpgen.video.clips import read_video

from .conftest import scene, states, until


def test_a_task_makes_the_video_of_the_command(make_worker, trained, tmp_path):
    worker = make_worker()
    task = worker.add(scene(denoising={"steps": 2, "seed": 5}, prompt="a red disc", later="0.3: a blue ring"))
    until(lambda: states(worker) == ["done"])
    (tmp_path / "p.csv").write_text("seconds,prompt\n0,a red disc\n0.3,a blue ring\n")
    generate(tmp_path / "a.mp4", trained, scene="bounce", seconds=0.6, steps=2, seed=5, prompts=tmp_path / "p.csv")
    ours = worker.folder / task.video
    assert np.array_equal(read_video(ours), read_video(tmp_path / "a.mp4"))
    records = [json.loads(path.with_suffix(".json").read_text()) for path in (ours, tmp_path / "a.mp4")]
    assert records[0]["prompts"] == records[1]["prompts"]
    made = worker.queue.get(1)
    assert (made.frames, made.num_sections, made.fps) == (17, 2, 24.0)
    assert worker.last.live.progress().made == 2
    number, jpeg = worker.last.live.picture
    assert number >= 1
    assert jpeg[:2] == b"\xff\xd8"


def test_what_goes_wrong_is_said_and_the_queue_goes_on(make_worker, monkeypatch, capsys):
    worker = make_worker(started=False)
    Image.new("RGB", (40, 40)).save(worker.folder / "gone.png")
    worker.add(Request("image", "gone.png", denoising={"steps": 1}))
    (worker.folder / "gone.png").unlink()
    worker.add(scene(prompt="bug"))
    worker.add(scene())
    from mpgen.studio import worker as module

    genuine = module.generate_video

    def broken(model, job, *rest, **options):
        if job.prompt == "bug":
            raise RuntimeError("CUDA\nout of memory")
        return genuine(model, job, *rest, **options)

    monkeypatch.setattr(module, "generate_video", broken)
    worker.start()
    until(lambda: states(worker) == ["failed", "failed", "done"])
    assert "gone.png does not exist" in worker.queue.get(1).said
    assert worker.queue.get(2).said == "CUDA out of memory"
    assert "RuntimeError" in capsys.readouterr().err
    with pytest.raises(UserError, match="--seconds 0"):
        worker.add(scene(seconds=0.0))


def test_a_video_is_paused_stopped_and_played(make_worker):
    worker = make_worker(started=False)
    worker.add(scene(seconds=60.0))
    worker.start()
    until(lambda: worker.now and worker.now.live.count >= 1)
    live = worker.now.live
    live.pause()
    until(lambda: live.progress().paused)
    held = live.count + 1
    until(lambda: threading.Event().wait(0.2) or True)
    assert live.count <= held
    live.resume()
    until(lambda: live.count > held)
    assert live.progress().seconds_left > 0
    live.stop()
    until(lambda: states(worker) == ["stopped"])
    task = worker.queue.get(1)
    assert task.frames == len(read_video(worker.folder / task.video)) == 1 + 8 * task.num_sections
    assert 1 <= task.num_sections < 180


def test_an_endless_video_takes_new_texts_and_branches(make_worker):
    worker = make_worker(started=False)
    worker.add(scene(endless=True, prompt="a cat"))
    assert not worker.say("nobody is there")
    worker.start()
    until(lambda: worker.now and worker.now.live.count >= 1)
    assert worker.say("a dog")
    said = worker.now.live.count
    until(lambda: worker.now.live.count >= said + 2)
    assert worker.now.live.progress().seconds_left is None
    worker.now.live.stop()
    until(lambda: states(worker) == ["stopped"])
    video = worker.folder / worker.queue.get(1).video
    record = json.loads(video.with_suffix(".json").read_text())
    assert record["prompts"]["texts"] == ["a cat", "a dog"]

    worker.add(Request("branch", worker.queue.get(1).video, "a bird", section=2, seconds=0.3, denoising={"steps": 1}))
    until(lambda: states(worker)[1:] == ["done"])
    branch = read_video(worker.folder / worker.queue.get(2).video).astype(int)
    assert len(branch) == 17
    assert np.abs(branch[:9] - read_video(video)[:9]).mean() < 6


def test_what_was_being_made_is_made_whole_after_a_restart(make_worker):
    worker = make_worker(started=False)
    worker.add(scene(seconds=1.0))
    worker.start()
    until(lambda: worker.now and worker.now.live.picture[0])
    worker.now.live.pause()
    again = make_worker()  # closes the first
    until(lambda: states(again) == ["done"])
    assert again.queue.get(1).frames == 25


def test_what_is_read_is_recorded_where_it_was_asked_for(make_worker):
    worker = make_worker()
    worker.add(scene(readings=True, denoising={"steps": 1}))
    until(lambda: states(worker) == ["done"])
    readings = worker.last.live.progress().readings
    assert [number for number, _ in readings] == [0, 1]
    assert readings[1][1].parts["memory"] > 0


def test_at_its_own_pace_a_video_is_made_as_it_is_seen(monkeypatch):
    live = Live(lambda latents: latents, None, 0.5, own_pace=True)
    waits = []
    monkeypatch.setattr(live._stop, "wait", lambda seconds: waits.append(seconds))
    for _ in range(6):
        live.made(0.1)
    assert waits == [pytest.approx(0.5, abs=0.1), pytest.approx(1.0, abs=0.1)]  # two seconds are there before
    assert live.progress().times_real_time == pytest.approx(5)
