from dataclasses import replace

import pytest
import torch

from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser
from mpgen.flow import LogitNormal, Uniform, add_noise, to_clean
from mpgen.memory.structures import StructureA, StructureC
from mpgen.past import Past
from mpgen.training.forcing import DirectForcing, StudentForcing, TeacherForcing
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import Objective
from mpgen.training.parameters import select_trainable
from mpgen.training.targets import NextSection, Rehearsal


@pytest.fixture
def carried(monkeypatch) -> list[torch.Tensor]:
    """Every section that becomes part of the past from now on."""
    seen, after = [], Past.after

    def watched(past, section):
        seen.append(section)
        return after(past, section)

    monkeypatch.setattr(Past, "after", watched)
    return seen


@pytest.fixture
def packed(monkeypatch) -> list[Past]:
    """Every past whose context is asked for from now on."""
    seen, pack = [], Past.pack

    def watched(past, num_sections=1):
        seen.append(past)
        return pack(past, num_sections)

    monkeypatch.setattr(Past, "pack", watched)
    return seen


@pytest.mark.parametrize(
    ("forcing", "forwards"), [(TeacherForcing(), 3), (DirectForcing(), 3), (StudentForcing(5), 3 + 2 * 5)]
)
def test_direct_forcing_costs_no_extra_forward_and_student_forcing_its_steps_for_every_carried_section(
    make_denoiser, losses, count_calls, forcing, forwards
):
    denoiser = make_denoiser()
    calls = count_calls(denoiser.backbone, "trunk")
    losses(denoiser, forcing)
    assert len(calls) == forwards


def test_direct_forcing_carries_the_estimate_of_the_very_forward_that_gave_the_loss(
    make_denoiser, losses, latents, carried, count_calls, monkeypatch
):
    denoiser = make_denoiser()
    trunks, heads, head = count_calls(denoiser.backbone, "trunk"), [], denoiser.backbone.head
    monkeypatch.setattr(denoiser.backbone, "head", lambda *given: heads.append(head(*given)) or heads[-1])
    found = losses(denoiser)
    clean = latents(2, 9, seed=1).split(3, 2)
    assert len(carried) == 2
    for number, (section, told) in enumerate(zip(found[:2], carried, strict=True)):
        draw = KeyedNoise(0, 5).draw(("a", "b"), number, clean[number])
        noisy = add_noise(clean[number], draw.noise, section.sigma)
        torch.testing.assert_close(trunks[number][0], noisy)
        assert torch.equal(told, to_clean(noisy, section.sigma, heads[number].detach()))


@pytest.mark.parametrize("forcing", [TeacherForcing(), DirectForcing(), StudentForcing(2)])
def test_what_is_carried_has_no_gradient(make_denoiser, losses, carried, forcing):
    losses(make_denoiser(), forcing, backward=True)
    assert [section.requires_grad for section in carried] == [False, False]


def test_teacher_forcing_carries_the_data(make_denoiser, losses, latents, carried):
    found = losses(make_denoiser(), TeacherForcing())
    assert all(torch.equal(a, b) for a, b in zip(carried, latents(2, 9, seed=1).split(3, 2)[:2], strict=True))
    assert [section.carried_error.tolist() for section in found[:2]] == [[0, 0], [0, 0]]


def test_the_carried_error_of_direct_forcing_is_sigma_times_the_error_of_the_velocity(make_denoiser, losses):
    found = losses(make_denoiser())
    for section in found[:2]:
        torch.testing.assert_close(section.carried_error, section.sigma * section.per_video.sqrt())
    assert found[2].carried_error is None


def test_the_loss_is_the_mean_squared_error_of_the_velocity(small_config, losses, latents):
    found = losses(Denoiser(small_config))  # a new network says zero
    for number, (section, clean) in enumerate(zip(found, latents(2, 9, seed=1).split(3, 2), strict=True)):
        noise = KeyedNoise(0, 5).draw(("a", "b"), number, clean).noise
        torch.testing.assert_close(section.per_video, (noise - clean).square().mean((1, 2, 3, 4)))
        torch.testing.assert_close(section.loss.detach(), section.per_video.mean())


@pytest.mark.parametrize("forcing", [TeacherForcing(), DirectForcing()])
@pytest.mark.parametrize("structure", [StructureA(), StructureC()])
def test_backward_after_every_section_adds_up_to_the_gradient_of_the_sum(
    make_denoiser, small_config, losses, gradients, forcing, structure
):
    denoiser = make_denoiser(memory=replace(small_config.memory, structure=structure))
    losses(denoiser, forcing, backward=True)
    piecewise = gradients(denoiser)
    sum(section.loss for section in losses(denoiser, forcing)).backward()
    at_once = gradients(denoiser)
    assert piecewise.keys() == at_once.keys() == {name for name, _ in denoiser.named_parameters()}
    for name, gradient in at_once.items():
        torch.testing.assert_close(piecewise[name], gradient, atol=1e-6, rtol=1e-4)


def test_the_head_alone_gets_the_same_gradient_without_a_graph_in_the_trunk(
    make_denoiser, losses, gradients, monkeypatch
):
    denoiser = make_denoiser()
    full_losses = [section.loss.item() for section in losses(denoiser, backward=True)]
    full = gradients(denoiser)
    select_trainable(denoiser, ["backbone.norm_out.*", "backbone.proj_out.*"])
    given, head_fn = [], denoiser.backbone.head
    monkeypatch.setattr(denoiser.backbone, "head", lambda *inputs: given.append(inputs) or head_fn(*inputs))
    head_losses = [section.loss.item() for section in losses(denoiser, backward=True)]
    head = gradients(denoiser)
    assert len(given) == 3
    assert not any(tokens.requires_grad or temb.requires_grad for tokens, temb, _ in given)
    assert head_losses == full_losses
    assert set(head) == {
        "backbone.norm_out.linear.weight",
        "backbone.norm_out.linear.bias",
        "backbone.proj_out.weight",
        "backbone.proj_out.bias",
    }
    for name, gradient in head.items():
        torch.testing.assert_close(gradient, full[name])


def test_validation_makes_no_graph(make_denoiser, losses):
    with torch.no_grad():
        found = losses(make_denoiser())
    assert not any(section.loss.requires_grad for section in found)


def test_the_loss_of_a_video_does_not_depend_on_its_company(make_denoiser, make_batch, losses):
    denoiser, both = make_denoiser(), make_batch()
    together, of_both = losses(denoiser), both.conditioning
    own = Conditioning(of_both.text[1:, :2], of_both.text_mask[1:, :2], of_both.pooled[1:], of_both.image[1:], 4.0)
    batch = replace(both, start=both.start[1:], latents=both.latents[1:], conditioning=own, uids=("b",))
    objective = Objective(DirectForcing(), LogitNormal(), NextSection())
    alone = objective.losses(denoiser, batch, KeyedNoise(0, 5))
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both.per_video[1:], one.per_video, atol=1e-5, rtol=1e-5)
        assert torch.equal(both.sigma[1:], one.sigma)


def test_later_sections_feel_what_was_carried_and_the_first_does_not(make_denoiser, losses):
    teacher, direct = (losses(make_denoiser(), forcing) for forcing in (TeacherForcing(), DirectForcing()))
    assert torch.equal(teacher[0].per_video, direct[0].per_video)
    assert (teacher[1].per_video - direct[1].per_video).abs().max() > 1e-6
    assert (teacher[2].per_video - direct[2].per_video).abs().max() > 1e-6


def test_noise_levels_come_from_the_draw_that_was_asked_for(make_denoiser, losses):
    plain, shifted = (losses(make_denoiser(), sigma=Uniform(shift)) for shift in (1.0, 3.0))
    for a, b in zip(plain, shifted, strict=True):
        torch.testing.assert_close(b.sigma, 3 * a.sigma / (1 + 2 * a.sigma))


def test_where_the_last_section_is_made_first_it_is_trained_first_and_shown_what_follows(
    make_denoiser, losses, latents, carried, packed
):
    denoiser = make_denoiser(order="f0")
    assert [section.number for section in losses(denoiser, TeacherForcing())] == [0, 1, 2]
    first, second, third = latents(2, 9, seed=1).split(3, 2)
    assert [torch.equal(*pair) for pair in zip(carried, (third, second), strict=True)] == [True, True]
    windows = [past.history.window() for past in packed]
    assert not windows[0].any()
    assert torch.equal(windows[1][:, :, :3], third)
    assert torch.equal(windows[2][:, :, :6], torch.cat([second, third], 2))
    assert not torch.equal(windows[2][:, :, :3], first)


@pytest.mark.parametrize("num_given", [1, 2])
def test_given_sections_are_remembered_as_they_are_and_have_no_loss(
    make_denoiser, losses, carried, count_calls, num_given
):
    denoiser = make_denoiser()
    whole = losses(denoiser, TeacherForcing())
    carried.clear()
    forwards = count_calls(denoiser.backbone, "trunk")
    excerpt = losses(denoiser, TeacherForcing(), num_given=num_given)
    assert len(forwards) == len(excerpt) == 3 - num_given
    assert len(carried) == 2
    assert [section.number for section in excerpt] == list(range(num_given, 3))
    for section, same in zip(excerpt, whole[num_given:], strict=True):
        torch.testing.assert_close(section.loss, same.loss)


def test_memory_learns_from_given_sections(make_denoiser, losses):
    denoiser = make_denoiser()
    losses(denoiser, TeacherForcing(), num_given=2, backward=True)
    assert denoiser.memory.window_embed.weight.grad.norm() > 0


def test_a_rehearsal_asks_for_an_earlier_section_by_memory_and_start_image_alone(
    make_denoiser, losses, packed, count_calls
):
    denoiser = make_denoiser()
    forwards = count_calls(denoiser.backbone, "trunk")
    shown = losses(denoiser, TeacherForcing())
    again = losses(denoiser, TeacherForcing(), target=Rehearsal(1.0))
    torch.testing.assert_close(shown[0].loss, again[0].loss)  # before the first section there is none
    assert not torch.equal(shown[2].loss, again[2].loss)
    for seen, alone in list(zip(packed[:3], packed[3:], strict=True))[1:]:
        assert bool(seen.history.recent.any())
        assert not alone.history.recent.any()
        assert torch.equal(seen.history.start, alone.history.start)
        assert alone.history.numbers == seen.history.numbers
        # Memory goes on from what comes next, not from what was drawn again.
        torch.testing.assert_close(seen.psi.read().tokens, alone.psi.read().tokens)
    assert len(forwards) == 6


def test_sections_are_rehearsed_as_often_as_asked_for_video_by_video(make_denoiser, losses, packed):
    denoiser = make_denoiser()
    for step in range(20):
        losses(denoiser, TeacherForcing(), target=Rehearsal(0.3), noise=KeyedNoise(0, step))
    later = [past.history.recent for past in packed if past.history.recent.any()]
    dropped = torch.stack([recent.flatten(1).any(1) for recent in later]).logical_not().float()
    assert 0.15 < dropped.mean() < 0.45
    assert 0 < (dropped[:, 0] != dropped[:, 1]).float().mean() < 1


def test_what_is_rehearsed_is_one_of_the_sections_before(make_denoiser, losses, monkeypatch):
    targets = []

    def watched(clean, noise):
        targets.append(clean)
        return noise - clean

    monkeypatch.setattr("mpgen.training.objective.velocity_target", watched)
    denoiser = make_denoiser()
    losses(denoiser, TeacherForcing())
    sections = targets.copy()
    for step in range(6):
        targets.clear()
        losses(denoiser, TeacherForcing(), target=Rehearsal(1.0), noise=KeyedNoise(0, step))
        for number, target in enumerate(targets):
            for video in range(len(target)):
                same = [torch.equal(target[video], section[video]) for section in sections]
                assert sum(same[: max(number, 1)]) == 1
