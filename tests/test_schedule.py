"""Laws of the schedules: what is noisy when, and that training and generation agree about it."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpgen.data.dataset import VideoBatch
from mpgen.errors import UserError
from mpgen.flow import LogitNormal, sigma_schedule
from mpgen.generation.rollout import Sampling, rollout
from mpgen.sampling import euler, unipc
from mpgen.schedule import Schedule, Sequential, SharedLevel, Staircase
from mpgen.sections import Forward, Inverted
from mpgen.training.forcing import TeacherForcing
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import Objective
from mpgen.training.targets import NextSection

WINDOW = 3


def descents(schedule: Schedule, num_sections: int, steps: int, shift: float) -> list[list[torch.Tensor]]:
    """Every section's columns of levels, in the order of the stages."""
    columns: list[list[torch.Tensor]] = [[] for _ in range(num_sections)]
    for stage in schedule.stages(num_sections):
        levels = schedule.levels(steps, shift, stage.ages)
        for section, column in zip(stage.sections, levels.unbind(1), strict=True):
            columns[section].append(column)
    return columns


@given(
    window=st.integers(2, 6),
    each=st.integers(1, 5),
    num_sections=st.integers(1, 9),
    shift=st.sampled_from([1.0, 2.5, 7.0]),
    power=st.sampled_from([1.0, 2.0]),
)
def test_a_staircase_takes_every_section_down_in_the_same_steps(window, each, num_sections, shift, power):
    schedule, steps = Staircase(window, power), window * each
    for columns in descents(schedule, num_sections, steps, shift):
        assert len(columns) == window
        for before, after in pairwise(columns):
            assert before[-1] == after[0]  # each stage begins where the one before it ended
        visited = torch.cat([columns[0][:1], *(column[1:] for column in columns)])
        assert torch.equal(visited, schedule.descent(steps, shift))
        assert len(visited) == steps + 1
        assert (visited[0], visited[-1]) == (1, 0)
        assert bool((visited.diff() < 0).all())


@given(window=st.integers(2, 6), num_sections=st.integers(1, 9), each=st.integers(1, 4))
def test_a_staircase_keeps_a_constant_lag_inside_its_window(window, num_sections, each):
    schedule, steps = Staircase(window), window * each
    descent = schedule.descent(steps, 1.0)
    stages = list(schedule.stages(num_sections))
    assert len(stages) == schedule.count_stages(num_sections) == num_sections + window - 1
    assert max(len(stage.sections) for stage in stages) == min(window, num_sections)
    for stage in stages:
        assert all(older - younger == 1 for older, younger in pairwise(stage.ages))
        levels = schedule.levels(steps, 1.0, stage.ages)
        for column, age in zip(levels.unbind(1), stage.ages, strict=True):
            assert torch.equal(column, descent[age * each : (age + 1) * each + 1])


SCHEDULES = st.one_of(st.just(Sequential()), st.integers(2, 6).map(Staircase))


@given(schedule=SCHEDULES, num_sections=st.integers(1, 9), num_given=st.integers(0, 3))
def test_every_section_that_is_not_given_joins_once_and_is_finished_once_in_order(schedule, num_sections, num_given):
    stages = list(schedule.stages(num_given + num_sections, num_given))
    assert len(stages) == schedule.count_stages(num_sections)
    made = list(range(num_given, num_given + num_sections))
    assert [stage.joining for stage in stages if stage.joining is not None] == made
    assert [stage.finished for stage in stages if stage.finished is not None] == made
    assert [stage.number for stage in stages] == list(range(num_given, num_given + len(stages)))


@given(schedule=SCHEDULES, num_sections=st.integers(1, 9), num_given=st.integers(0, 3))
def test_a_section_is_noisy_from_the_stage_that_it_joins_to_that_it_is_finished_in_and_ages_by_one(
    schedule, num_sections, num_given
):
    stages = list(schedule.stages(num_given + num_sections, num_given))
    for section in range(num_given, num_given + num_sections):
        of_section = [stage for stage in stages if section in stage.sections]
        assert [stage.ages[section - stage.sections[0]] for stage in of_section] == list(range(schedule.window))
        numbers = [stage.number for stage in of_section]
        assert numbers == list(range(numbers[0], numbers[0] + schedule.window))
        assert [stage for stage in of_section if stage.joining == section] == of_section[:1]
        assert [stage for stage in of_section if stage.finished == section] == of_section[-1:]


def test_steps_that_the_stages_cannot_share_are_rounded_up():
    assert torch.equal(Staircase(3).levels(4, 1.0, [2, 1, 0]), Staircase(3).levels(6, 1.0, [2, 1, 0]))


def test_the_stairs_are_those_of_magi():
    """Stage bounds of MAGI-1 (SandAI-org/MAGI-1), t = 1 - sigma: 0, 0.0217, 0.1, 0.3, 1."""
    bounds = 1 - Staircase().sigma(torch.linspace(0, 1, 5))
    torch.testing.assert_close(bounds, torch.tensor([0, 0.0217, 0.1, 0.3, 1]), atol=1e-4, rtol=0)


@given(uniform=st.floats(0.001, 0.999), window=st.integers(2, 5))
def test_training_draws_levels_that_generation_passes(uniform, window):
    schedule = Staircase(window)
    ages = list(range(window))[::-1]
    drawn = schedule.draw(torch.tensor([uniform]), ages, 2, LogitNormal())
    assert drawn.shape == (1, 2 * window)
    bounds = schedule.levels(window, 1.0, ages)  # one step a stage
    for column, level in zip(bounds.unbind(1), drawn[0, ::2], strict=True):
        assert column[1] - 1e-6 <= level <= column[0] + 1e-6


def test_one_section_at_a_time_is_the_plain_schedule():
    stages = list(Sequential().stages(3))
    assert [stage.sections for stage in stages] == [range(0, 1), range(1, 2), range(2, 3)]
    assert all(stage.number == stage.joining == stage.finished for stage in stages)
    assert torch.equal(Sequential().levels(5, 2.0, [0])[:, 0], sigma_schedule(5, 2.0))
    uniform, draw = torch.tensor([0.2, 0.7]), LogitNormal(shift=2.0)
    assert torch.equal(Sequential().draw(uniform, [0], 3, draw), draw(uniform))


def test_no_section_sees_a_noisier_one_and_the_condition_sees_none(make_denoiser, latents, make_conditioning):
    denoiser = make_denoiser(memory=None, layout=Forward(3, 0, 0, 3), schedule=Staircase(WINDOW))
    conditioning = make_conditioning(4)
    context = denoiser.begin(latents(1, 1), conditioning).pack(WINDOW)
    sigma = torch.tensor([0.2, 0.5, 0.9]).repeat_interleave(3)[None]
    noisy = latents(1, 9, seed=1)
    before = denoiser(noisy, sigma, context, conditioning)
    for changed in range(WINDOW):
        other = noisy.clone()
        other[:, :, 3 * changed : 3 * changed + 3] += 1
        difference = (denoiser(other, sigma, context, conditioning) - before).abs().amax((0, 1, 3, 4))
        assert bool((difference[: 3 * changed] == 0).all())
        assert bool((difference[3 * changed :] > 1e-4).all())


def run(denoiser, latents, make_conditioning, num_sections: int, sampler=euler, steps: int = 2 * WINDOW):
    sampling = Sampling(sampler, steps, 1.0, 1.0, 0)
    return list(rollout(denoiser, latents(2, 1), make_conditioning(4, 2), num_sections, sampling))


@pytest.fixture
def make_staircase(make_denoiser):
    def make(**fields):
        return make_denoiser(layout=Forward(3, 0, 0, 3), schedule=Staircase(WINDOW), **fields)

    return make


@pytest.mark.parametrize("num_sections", [1, 2, 5])
def test_generation_runs_each_stage_once_and_yields_every_section(
    make_staircase, latents, make_conditioning, monkeypatch, num_sections
):
    denoiser = make_staircase(memory=None)
    seen, forward = [], denoiser.forward

    def counted(noisy, sigma, context, conditioning):
        seen.append(sigma[0].reshape(-1, 3)[:, 0].tolist())
        return forward(noisy, sigma, context, conditioning)

    monkeypatch.setattr(denoiser, "forward", counted)
    sections = run(denoiser, latents, make_conditioning, num_sections)
    assert [tuple(section.shape) for section in sections] == [(2, 3, 3, 6, 10)] * num_sections
    assert all(bool(section.isfinite().all()) for section in sections)
    assert len(seen) == 2 * (num_sections + WINDOW - 1)
    assert max(map(len, seen)) == min(WINDOW, num_sections)


def test_sections_that_are_done_before_the_last_one_joins_do_not_know_how_long_the_video_is(
    make_staircase, latents, make_conditioning
):
    denoiser = make_staircase()
    short, long = (run(denoiser, latents, make_conditioning, number) for number in (4, 6))
    for a, b in zip(short[:2], long[:2], strict=True):
        assert torch.equal(a, b)


def test_a_perfect_network_generates_what_it_was_told(make_staircase, latents, make_conditioning, monkeypatch):
    denoiser = make_staircase(memory=None)
    wanted = latents(2, 3, seed=5)

    def velocity(noisy, sigma, context, conditioning):
        clean = wanted.repeat(1, 1, noisy.shape[2] // 3, 1, 1)
        return (noisy - clean) / sigma[:, None, :, None, None]

    monkeypatch.setattr(denoiser, "forward", velocity)
    for section in run(denoiser, latents, make_conditioning, 4):
        torch.testing.assert_close(section, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("with_memory", [False, True])
def test_training_goes_through_the_same_stages(make_staircase, latents, make_conditioning, small_config, with_memory):
    denoiser = make_staircase(memory=small_config.memory if with_memory else None)
    videos = latents(2, 1), latents(2, 12, seed=1), make_conditioning(4, 2)
    batch = VideoBatch(*videos, num_sections=4, uids=("a", "b"), captions=("", ""))
    objective = Objective(TeacherForcing(), LogitNormal(), NextSection())
    losses = list(objective.losses(denoiser, batch, KeyedNoise(0, 0)))
    assert [loss.number for loss in losses] == list(range(4 + WINDOW - 1))
    assert [loss.carried_error is not None for loss in losses] == [False, False, True, True, True, False]
    assert all(loss.carried_error is None or not loss.carried_error.any() for loss in losses)
    sum(loss.loss for loss in losses).backward()
    assert all(bool(p.grad.isfinite().all()) for p in denoiser.parameters() if p.grad is not None)
    assert bool(denoiser.backbone.proj_out.weight.grad.any())


def test_what_a_staircase_cannot_do_is_said(make_staircase, latents, make_conditioning):
    denoiser = make_staircase(memory=None)
    with pytest.raises(UserError, match="--sampler unipc: wanted euler"):
        run(denoiser, latents, make_conditioning, 2, sampler=unipc)
    with pytest.raises(UserError, match="window of at least 2"):
        Staircase(1)
    past = denoiser.begin(latents(1, 1), make_conditioning(4), layout=Inverted(3, 0, 0, 3))
    with pytest.raises(UserError, match="order of time"):
        past.pack(2)


def test_history_at_the_sections_own_level_is_as_noisy_in_training_as_in_generation(
    make_denoiser, make_conditioning, latents
):
    denoiser = make_denoiser(schedule=SharedLevel())
    past = denoiser.begin(latents(2, 1), make_conditioning(4, 2)).after(latents(2, 3, seed=1))
    noise, sigma = latents(2, 7, seed=2), torch.tensor([0.25, 1.0])
    shown, clean = past.at(sigma, lambda: noise).history, past.history
    empty = clean.recent.shape[2] - 4  # the start image and a section are there
    assert not shown.recent[:, :, :empty].any()
    wanted = torch.stack([0.75 * clean.recent[0] + 0.25 * noise[0], noise[1]])
    torch.testing.assert_close(shown.recent[:, :, empty:], wanted[:, :, empty:])
    assert torch.equal(shown.start, clean.start)
    assert torch.equal(past.at(torch.zeros(2), lambda: noise).history.recent, clean.recent)

    asked = []
    fn = denoiser.schedule.velocity(lambda level: asked.append(level) or (lambda x, sigma: torch.zeros_like(x)))
    denoiser.schedule.denoise(euler, fn, latents(2, 3), denoiser.schedule.levels(4, 1.0, (0,)))
    assert asked == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_a_history_that_is_all_noise_says_nothing_and_one_section_ends_clean(make_denoiser, make_conditioning, latents):
    """At the first step nothing but the start image is seen, so with one step the history does not matter."""
    denoiser = make_denoiser(schedule=SharedLevel(), memory=None)

    def make(known, steps):
        sampling = Sampling(euler, steps, 1.0, 1.0, 0)
        return next(rollout(denoiser, latents(1, 1), make_conditioning(4), 1, sampling, [latents(1, 3, seed=known)]))

    assert torch.equal(make(1, 1), make(2, 1))
    assert not torch.allclose(make(1, 2), make(2, 2))
