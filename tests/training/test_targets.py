"""What a stage of training draws, and that training sees of the past what generation sees."""

import pytest
import torch

from mpgen.errors import UserError
from mpgen.flow import LogitNormal
from mpgen.generation.rollout import Sampling, rollout
from mpgen.memory.framepack import History
from mpgen.past import Past
from mpgen.sampling import euler
from mpgen.schedule import Sequential, Staircase
from mpgen.sections import Forward, Inverted
from mpgen.training.forcing import DirectForcing, TeacherForcing
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import Objective
from mpgen.training.targets import FarRehearsal, NextSection, Rehearsal, TrueSections

SECTIONS = 5
LAYOUTS = [Forward(section=3), Inverted(section=3, num_sections=SECTIONS)]


@pytest.fixture(params=LAYOUTS, ids=["f1", "f0"])
def true(request, latents) -> TrueSections:
    """Two videos of five sections, in either order."""
    return TrueSections(latents(2, 3 * SECTIONS, seed=1), request.param)


def all_stages(true, target, uids=("a", "b"), step=0, schedule=Sequential()):  # noqa: B008
    return [target.choose(true, stage, uids, KeyedNoise(0, step)) for stage in schedule.stages(SECTIONS)]


def test_sections_are_cut_where_the_layout_puts_them(true):
    pieces = true.latents.split(3, 2)[:: true.layout.direction]
    for number, piece in enumerate(pieces):
        assert torch.equal(true.cut(range(number, number + 1)), piece)
    side_by_side = TrueSections(true.latents, LAYOUTS[0]).cut(range(1, 3))
    assert torch.equal(side_by_side, true.latents[:, :, 3:9])


def test_the_next_section_is_what_comes_next_and_none_is_from_memory(true):
    for number, drawn in enumerate(all_stages(true, NextSection())):
        assert torch.equal(drawn.clean, true.cut(range(number, number + 1)))
        assert drawn.from_memory.tolist() == [False, False]


@pytest.mark.parametrize("step", range(4))
def test_a_rehearsal_that_never_happens_is_the_next_section(true, step):
    for never, following in zip(
        all_stages(true, Rehearsal(0.0), step=step), all_stages(true, NextSection(), step=step), strict=True
    ):
        assert torch.equal(never.clean, following.clean)
        assert torch.equal(never.from_memory, following.from_memory)


def test_without_a_memory_a_rehearsal_is_the_next_section(make_denoiser, losses):
    denoiser = make_denoiser(memory=None)
    for often, never in zip(losses(denoiser, target=Rehearsal(1.0)), losses(denoiser), strict=True):
        assert torch.equal(often.per_video, never.per_video)


def test_a_rehearsal_at_every_stage_draws_earlier_sections_alone_and_the_first_one_as_it_is(true):
    found: set[tuple[int, int]] = set()
    for step in range(40):
        for number, drawn in enumerate(all_stages(true, Rehearsal(1.0), step=step)):
            assert drawn.from_memory.tolist() == [number > 0] * 2
            if number == 0:
                assert torch.equal(drawn.clean, true.cut(range(0, 1)))
                continue
            for video in range(2):
                cuts = [true.cut(range(j, j + 1))[video] for j in range(SECTIONS)]
                (same,) = (j for j, section in enumerate(cuts) if torch.equal(section, drawn.clean[video]))
                assert same < number
                found.add((number, same))
    assert found == {(number, j) for number in range(SECTIONS) for j in range(number)}  # every earlier one is drawn


@pytest.mark.parametrize("forward", [True, False])
def test_a_far_rehearsal_draws_what_only_the_far_history_shows(latents, forward):
    sizes = {"section": 3, "history_4x": 4, "history_2x": 4, "history_1x": 1}
    layout = Forward(**sizes) if forward else Inverted(**sizes, num_sections=SECTIONS)
    true, found = TrueSections(latents(2, 3 * SECTIONS, seed=1), layout), set()
    for step in range(20):
        for number, drawn in enumerate(all_stages(true, FarRehearsal(1.0, near=3), step=step)):
            assert drawn.from_memory.tolist() == [number > 1] * 2
            cuts = [true.cut(range(j, j + 1))[0] for j in range(SECTIONS)]
            (same,) = (j for j, section in enumerate(cuts) if torch.equal(section, drawn.clean[0]))
            found.add((number, same))
    assert found == {(0, 0), (1, 1), (2, 0), (3, 0), (3, 1), (4, 1), (4, 2)}


def test_of_a_far_rehearsal_the_latest_frames_are_not_shown(latents):
    layout = Forward(section=3, history_4x=4, history_2x=4, history_1x=1)
    history = History.begin(latents(2, 1), layout)
    for number in range(4):
        history = history.append(latents(2, 3, seed=number))
    far = history.without(torch.tensor([True, False]), kept=6)
    assert torch.equal(far.recent[0, :, :6], history.recent[0, :, :6])
    assert not far.recent[0, :, 6:].any()
    assert torch.equal(far.recent[1], history.recent[1])


def test_sections_side_by_side_are_never_rehearsed(latents):
    true = TrueSections(latents(2, 3 * SECTIONS, seed=1), LAYOUTS[0])
    schedule = Staircase(2)
    for stage, drawn in zip(
        schedule.stages(SECTIONS), all_stages(true, Rehearsal(1.0), schedule=schedule), strict=True
    ):
        if len(stage.sections) > 1:
            assert torch.equal(drawn.clean, true.cut(stage.sections))
            assert not drawn.from_memory.any()


@pytest.mark.parametrize("forcing", [TeacherForcing(), DirectForcing()])
def test_after_a_rehearsal_the_true_next_section_is_carried(make_denoiser, losses, latents, monkeypatch, forcing):
    carried, after = [], Past.after
    monkeypatch.setattr(Past, "after", lambda past, section: carried.append(section) or after(past, section))
    found = losses(make_denoiser(), forcing, target=Rehearsal(1.0))
    true = latents(2, 9, seed=1).split(3, 2)
    assert torch.equal(carried[1], true[1])  # stage 0 rehearses nothing
    assert found[1].carried_error.tolist() == [0, 0]


def test_what_is_rehearsed_does_not_hang_on_the_other_videos_of_a_batch(true):
    """So the numbers are the same on any number of ranks."""
    chosen = set()
    for step in range(6):
        together = all_stages(true, Rehearsal(0.5), step=step)
        for video, uid in enumerate(("a", "b")):
            own = TrueSections(true.latents[video : video + 1], true.layout)
            for both, one in zip(together, all_stages(own, Rehearsal(0.5), (uid,), step), strict=True):
                assert torch.equal(both.clean[video : video + 1], one.clean)
                assert torch.equal(both.from_memory[video : video + 1], one.from_memory)
                chosen.add(bool(one.from_memory))
    assert chosen == {False, True}


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_cannot_be_is_refused_in_one_line(share):
    with pytest.raises(UserError, match=r"model\.target share .*wanted a number in \[0, 1\]") as error:
        Rehearsal(share)
    assert "\n" not in str(error.value)


@pytest.fixture
def seen(monkeypatch):
    """The contexts of every forward of a denoiser from now on."""

    def watch(denoiser):
        contexts, forward = [], denoiser.forward

        def watched(noisy, sigma, context, conditioning):
            contexts.append(context)
            return forward(noisy, sigma, context, conditioning)

        monkeypatch.setattr(denoiser, "forward", watched)
        return contexts

    return watch


@pytest.mark.parametrize("with_memory", [True, False])
@pytest.mark.parametrize("num_given", [0, 2])
def test_training_on_given_sections_builds_the_contexts_of_generation_after_them(
    make_denoiser, small_config, make_batch, seen, with_memory, num_given
):
    denoiser = make_denoiser(memory=small_config.memory if with_memory else None)
    batch = make_batch(num_given=num_given)
    contexts = seen(denoiser)
    list(Objective(TeacherForcing(), LogitNormal(), NextSection()).losses(denoiser, batch, KeyedNoise(0, 0)))
    trained = contexts.copy()
    assert len(trained) == 3 - num_given
    sections = batch.latents.split(3, 2)
    for number, context in enumerate(trained, num_given):
        contexts.clear()
        sampling = Sampling(euler, 1, 1.0, 4.0, 0)
        list(rollout(denoiser, batch.start, batch.conditioning, 1, sampling, known=sections[:number]))
        (generated,) = contexts
        torch.testing.assert_close(context.tokens, generated.tokens)
        assert torch.equal(context.rotation, generated.rotation)
        assert torch.equal(context.mask, generated.mask)
        assert torch.equal(context.section_indices, generated.section_indices)
        assert (context.sigma, context.blocks) == (generated.sigma, generated.blocks) == (None, None)


def test_where_sections_are_side_by_side_training_builds_the_contexts_of_generation_too(
    make_denoiser, make_batch, seen
):
    denoiser = make_denoiser(schedule=Staircase(2))
    batch, contexts = make_batch(num_given=1), seen(denoiser)
    list(Objective(TeacherForcing(), LogitNormal(), NextSection()).losses(denoiser, batch, KeyedNoise(0, 0)))
    first = contexts[0]
    contexts.clear()
    known = batch.latents.split(3, 2)[:1]
    list(rollout(denoiser, batch.start, batch.conditioning, 2, Sampling(euler, 2, 1.0, 4.0, 0), known=known))
    torch.testing.assert_close(first.tokens, contexts[0].tokens)
    assert torch.equal(first.blocks, contexts[0].blocks)
    assert first.sigma == contexts[0].sigma == 0.0
