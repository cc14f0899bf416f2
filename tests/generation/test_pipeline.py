import json
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpgen.generation.pipeline import Job, generate_video, to_clip, to_frames
from mpgen.generation.prompts import LivePrompts, Prompts
from mpgen.generation.rollout import Sampling, rollout
from mpgen.generation.watching import Watcher
from mpgen.sampling import euler, unipc
from mpgen.sections import Inverted
from mpgen.video.clips import read_video
from mpgen.video.opening import read_metadata

SAMPLING = Sampling(euler, 2, 1.5, 2.0, 9)


@pytest.fixture
def make_job(scene_frames, tmp_path):
    def make(num_sections: int = 3, known_sections: int = 0, name: str = "out.mp4") -> Job:
        known = scene_frames[1 : 1 + 8 * known_sections] if known_sections else None
        return Job('a "red" disc, é', scene_frames[0], known, num_sections, tmp_path / "new" / name)

    return make


def test_frames_survive_as_a_clip():
    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    clip = to_clip(frames)
    assert clip.shape == (1, 3, 5, 4, 6)
    assert -1 <= float(clip.min()) < float(clip.max()) <= 1
    assert np.array_equal(to_frames(clip), frames)


def test_a_video_holds_the_start_frame_and_every_frame_of_its_sections(model, make_job, scene_frames):
    job = make_job()
    made = generate_video(model, job, SAMPLING, progress=False)
    video = read_video(made.output)
    assert (made.frames, len(video), made.interrupted) == (25, 25, False)
    assert len(made.seconds_per_section) == 3
    assert np.abs(video[0].astype(int) - scene_frames[0]).mean() < 6
    start_clip = to_clip(job.start[None])
    start = model.encoders.vae.encode(start_clip)
    sections = rollout(
        model.denoiser, start, model.encoders.conditioning([job.prompt], start_clip[:, :, 0]), 3, SAMPLING
    )
    wanted = to_frames(model.encoders.vae.decode(torch.cat(list(sections), 2), starts_with_still=False))
    assert np.abs(video[1:].astype(int) - wanted).mean() < 6


def test_sections_that_stand_alone_have_three_frames_less(model, make_job, scene_frames):
    denoiser = copy(model.denoiser)
    denoiser.layout = replace(denoiser.layout, alone=True)
    job = replace(make_job(num_sections=2), known=scene_frames[1:12])  # two sections of 5 frames, and one frame more
    made = generate_video(replace(model, denoiser=denoiser), job, SAMPLING, progress=False)
    video = read_video(made.output)
    assert made.frames == len(video) == 1 + 11 + 2 * 5
    vae, frames = model.encoders.vae, np.concatenate([job.start[None], job.known])
    known = [vae.encode(to_clip(frames[first : first + 5])) for first in (2, 7)]
    clip = to_clip(job.start[None])
    conditioning = model.encoders.conditioning([job.prompt], clip[:, :, 0])
    sections = rollout(denoiser, vae.encode(clip), conditioning, 2, SAMPLING, known)
    wanted = np.concatenate([to_frames(vae.decode(section)) for section in sections])
    assert np.abs(video[12:].astype(int) - wanted).mean() < 6


def test_known_frames_come_first_as_they_were_given(model, make_job, scene_frames):
    made = generate_video(model, make_job(num_sections=1, known_sections=2), SAMPLING, progress=False)
    video = read_video(made.output)
    assert (made.frames, len(video)) == (25, 25)
    assert np.abs(video[:17].astype(int) - scene_frames[:17]).mean() < 6
    record = json.loads(made.output.with_suffix(".json").read_text())
    assert (record["context_frames"], record["num_sections"]) == (17, 1)


def test_the_video_says_how_it_was_made(model, make_job):
    job = make_job(num_sections=2)
    made = generate_video(model, job, replace(SAMPLING, sampler=unipc), progress=False)
    inside = read_metadata(made.output)
    assert inside["title"] == job.prompt
    card = json.loads(inside["comment"])
    beside = json.loads(made.output.with_suffix(".json").read_text())
    assert card.items() <= beside.items()
    assert (card["prompt"], card["seed"], card["fps"], card["section_frames"]) == (job.prompt, 9, 24.0, 8)
    wanted = {"sampler": "unipc", "steps": 2, "shift": 1.5, "guidance_scale": 2.0, "seed": 9, "negative_prompt": ""}
    assert card["sampling"] == wanted | {
        "cache": None,
        "first_times": 1,
        "negative_memory": True,
        "memory_control": "own",
    }
    assert card["checkpoint"] == {"path": str(model.path), "steps": 2}
    assert (beside["frames"], beside["interrupted"], len(beside["seconds_per_section"])) == (17, False, 2)
    assert [path.name for path in sorted(made.output.parent.iterdir())] == ["out.json", "out.mp4"]


def test_an_interrupted_video_can_be_played_to_where_it_came(model, make_job):
    sections = []

    def impatient(velocity_fn, x, sigmas):
        if len(sections) == 2:
            raise KeyboardInterrupt
        sections.append(euler(velocity_fn, x, sigmas))
        return sections[-1]

    made = generate_video(model, make_job(num_sections=9), replace(SAMPLING, sampler=impatient), progress=False)
    assert made.interrupted
    assert made.frames == len(read_video(made.output)) == 17
    record = json.loads(made.output.with_suffix(".json").read_text())
    assert (record["interrupted"], record["frames"], record["num_sections"]) == (True, 17, 9)


def test_progress_goes_to_the_terminal_only_when_asked_for(model, make_job, capsys):
    generate_video(model, make_job(num_sections=1), SAMPLING, progress=False)
    assert capsys.readouterr() == ("", "")
    generate_video(model, make_job(num_sections=1, name="b.mp4"), SAMPLING)
    assert "b.mp4" in capsys.readouterr().err


def test_the_same_job_gives_the_same_file(model, make_job):
    files = [
        generate_video(model, make_job(1, name=name), SAMPLING, progress=False).output for name in ("a.mp4", "b.mp4")
    ]
    assert np.array_equal(*(read_video(file) for file in files))


def test_a_video_made_backwards_is_written_in_the_order_of_time(model, make_job):
    job = replace(make_job(), order=Inverted)
    made = generate_video(model, job, SAMPLING, progress=False)
    video = read_video(made.output)
    assert (made.frames, len(video)) == (25, 25)
    start_clip = to_clip(job.start[None])
    start = model.encoders.vae.encode(start_clip)
    conditioning = model.encoders.conditioning([job.prompt], start_clip[:, :, 0])
    sections = list(
        rollout(model.denoiser, start, conditioning, 3, SAMPLING, layout=Inverted.like(model.denoiser.layout))
    )
    wanted = to_frames(model.encoders.vae.decode(torch.cat(sections[::-1], 2), starts_with_still=False))
    assert np.abs(video[1:].astype(int) - wanted).mean() < 6


def test_an_interrupted_video_made_backwards_holds_its_end(model, make_job):
    sections = []

    def impatient(velocity_fn, x, sigmas):
        if len(sections) == 2:
            raise KeyboardInterrupt
        sections.append(euler(velocity_fn, x, sigmas))
        return sections[-1]

    job = replace(make_job(num_sections=4), order=Inverted)
    made = generate_video(model, job, replace(SAMPLING, sampler=impatient), progress=False)
    assert made.interrupted
    assert made.frames == len(read_video(made.output)) == 17


def test_a_change_of_prompt_changes_what_comes_after_it_and_nothing_before(model, make_job):
    same = generate_video(model, make_job(4, name="a.mp4"), SAMPLING, progress=False)
    texts = (make_job().prompt, "a blue ring moves left")
    # Sections of 8 frames begin at 1/3 s, 2/3 s, ... : the third one is the first at or after 0.4 s.
    job = replace(make_job(4, name="b.mp4"), prompts=Prompts((0.0, 0.4), texts))
    changed = generate_video(model, job, SAMPLING, progress=False)
    a, b = (read_video(made.output).astype(int) for made in (same, changed))
    assert np.array_equal(a[:16], b[:16])
    assert np.abs(a[17:] - b[17:]).max() > 0
    record = json.loads(changed.output.with_suffix(".json").read_text())
    assert record["prompts"] == {"seconds": [0.0, 0.4], "texts": list(texts)}


def test_a_text_said_on_the_way_is_as_one_in_a_schedule(model, make_job):
    first, then = make_job().prompt, "a blue ring moves left"
    written = replace(make_job(4, name="a.mp4"), prompts=Prompts((0.0, 0.6), (first, then)))
    said = replace(make_job(4, name="b.mp4"), prompts=LivePrompts(first))

    class Says(Watcher):
        sections = 0

        def made(self, seconds):
            self.sections += 1
            if self.sections == 2:
                said.prompts.say(then)

    a = generate_video(model, written, SAMPLING, progress=False)
    b = generate_video(model, said, SAMPLING, progress=False, watcher=Says())
    assert np.array_equal(read_video(a.output), read_video(b.output))
    record = json.loads(b.output.with_suffix(".json").read_text())
    assert record["prompts"] == {"seconds": [0.0, pytest.approx(2 / 3)], "texts": [first, then]}


def test_a_watcher_can_end_a_video_inside_a_section(model, make_job):
    class Impatient(Watcher):
        forwards = 0

        def denoised(self, sections, clean):
            self.forwards += 1
            if self.forwards == 4:  # the second of two in the second section
                raise KeyboardInterrupt

    made = generate_video(model, make_job(3), SAMPLING, progress=False, watcher=Impatient())
    assert made.interrupted
    assert made.frames == len(read_video(made.output)) == 9


def test_no_latents_are_left_on_the_disk(model, make_job, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    generate_video(model, replace(make_job(2), order=Inverted), SAMPLING, progress=False)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_known_frames_that_fill_no_section_are_written_but_not_remembered(model, make_job, scene_frames, count_calls):
    job = replace(make_job(1), known=scene_frames[1:20])
    encoded = count_calls(model.encoders.vae, "encode")
    made = generate_video(model, job, SAMPLING, progress=False)
    assert made.frames == len(read_video(made.output)) == 28
    clips = [given[0] for given in encoded if given[0].shape[2] > 1]
    assert [clip.shape[2] for clip in clips] == [9, 9]
    assert np.array_equal(to_frames(clips[0])[0], scene_frames[3])
    assert np.array_equal(to_frames(clips[1])[-1], scene_frames[19])
