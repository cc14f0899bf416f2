from dataclasses import replace

import pytest
import torch

from mpgen.flow import LogitNormal, Uniform, add_noise, to_clean
from mpgen.memory.structures import StructureA, StructureC
from mpgen.training.forcing import DirectForcing, StudentForcing, TeacherForcing
from mpgen.training.noise import KeyedNoise


@pytest.fixture
def remembered(monkeypatch):
    """Every section that a denoiser is told to remember."""

    def watch(denoiser):
        seen, remember = [], denoiser.remember

        def watched(history, memory, section):
            seen.append(section)
            return remember(history, memory, section)

        monkeypatch.setattr(denoiser, "remember", watched)
        return seen

    return watch


@pytest.mark.parametrize(
    ("forcing", "forwards"), [(TeacherForcing(), 3), (DirectForcing(), 3), (StudentForcing(5), 3 + 2 * 5)]
)
def test_direct_forcing_costs_no_extra_forward_and_student_forcing_its_steps_for_every_carried_section(
    make_denoiser, losses, count_calls, forcing, forwards
):
    denoiser = make_denoiser()
    calls = count_calls(denoiser, "trunk")
    losses(denoiser, forcing)
    assert len(calls) == forwards


def test_direct_forcing_carries_the_estimate_of_the_very_forward_that_gave_the_loss(
    make_denoiser, losses, latents, remembered, count_calls, monkeypatch
):
    denoiser = make_denoiser()
    carried, trunks, heads, head = remembered(denoiser), count_calls(denoiser, "trunk"), [], denoiser.head
    monkeypatch.setattr(denoiser, "head", lambda *given: heads.append(head(*given)) or heads[-1])
    found = losses(denoiser)
    clean = latents(2, 9, seed=1).split(3, 2)
    assert len(carried) == 2
    for number, (section, told) in enumerate(zip(found[:2], carried, strict=True)):
        draw = KeyedNoise(0, 5).draw(("a", "b"), number, clean[number])
        noisy = add_noise(clean[number], draw.noise, section.sigma)
        torch.testing.assert_close(trunks[number][0], noisy)
        assert torch.equal(told, to_clean(noisy, section.sigma, heads[number].detach()))


@pytest.mark.parametrize("forcing", [TeacherForcing(), DirectForcing(), StudentForcing(2)])
def test_what_is_carried_has_no_gradient(make_denoiser, losses, remembered, forcing):
    denoiser = make_denoiser()
    carried = remembered(denoiser)
    losses(denoiser, forcing, backward=True)
    assert [section.requires_grad for section in carried] == [False, False]


def test_teacher_forcing_carries_the_data(make_denoiser, losses, latents, remembered):
    denoiser = make_denoiser()
    carried = remembered(denoiser)
    found = losses(denoiser, TeacherForcing())
    assert all(torch.equal(a, b) for a, b in zip(carried, latents(2, 9, seed=1).split(3, 2)[:2], strict=True))
    assert [section.carried_error.tolist() for section in found[:2]] == [[0, 0], [0, 0]]


def test_the_carried_error_of_direct_forcing_is_sigma_times_the_error_of_the_velocity(make_denoiser, losses):
    found = losses(make_denoiser())
    for section in found[:2]:
        torch.testing.assert_close(section.carried_error, section.sigma * section.per_video.sqrt())
    assert found[2].carried_error is None


def test_the_loss_is_the_mean_squared_error_of_the_velocity(small_config, losses, latents):
    from mpgen.denoiser import Denoiser

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
    denoiser = make_denoiser(semantic=replace(small_config.semantic, structure=structure))
    losses(denoiser, forcing, backward=True)
    piecewise = gradients(denoiser)
    sum(section.loss for section in losses(denoiser, forcing)).backward()
    at_once = gradients(denoiser)
    assert piecewise.keys() == at_once.keys() == {name for name, _ in denoiser.named_parameters()}
    for name, gradient in at_once.items():
        torch.testing.assert_close(piecewise[name], gradient, atol=1e-6, rtol=1e-4)


def test_the_head_alone_gets_the_same_gradient_without_a_graph_in_the_trunk(make_denoiser, losses, gradients):
    denoiser = make_denoiser()
    full_losses = [section.loss.item() for section in losses(denoiser, backward=True)]
    full = gradients(denoiser)
    head_losses = [section.loss.item() for section in losses(denoiser, backward=True, head_only=True)]
    head = gradients(denoiser)
    assert head_losses == full_losses
    assert set(head) == {"norm_out.linear.weight", "norm_out.linear.bias", "proj_out.weight", "proj_out.bias"}
    for name, gradient in head.items():
        torch.testing.assert_close(gradient, full[name])


def test_validation_makes_no_graph(make_denoiser, losses):
    with torch.no_grad():
        found = losses(make_denoiser())
    assert not any(section.loss.requires_grad for section in found)


def test_the_loss_of_a_video_does_not_depend_on_its_company(make_denoiser, latents, make_conditioning, losses):
    from mpgen.conditioning import Conditioning
    from mpgen.training.objective import section_losses

    denoiser = make_denoiser()
    together = losses(denoiser)
    conditioning = make_conditioning(4, 2)
    own = Conditioning(
        conditioning.text[1:, :2], conditioning.text_mask[1:, :2], conditioning.pooled[1:], conditioning.image[1:]
    )
    alone = section_losses(
        denoiser, latents(2, 1)[1:], latents(2, 9, seed=1)[1:], own, ["b"],
        forcing=DirectForcing(), sigma_draw=LogitNormal(), noise=KeyedNoise(0, 5), guidance_scale=4.0, memory_windows=2,
    )  # fmt: skip
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both.per_video[1:], one.per_video, atol=1e-5, rtol=1e-5)
        assert torch.equal(both.sigma[1:], one.sigma)


def test_later_sections_feel_what_was_carried_and_the_first_does_not(make_denoiser, losses):
    teacher, direct = (losses(make_denoiser(), forcing) for forcing in (TeacherForcing(), DirectForcing()))
    assert torch.equal(teacher[0].per_video, direct[0].per_video)
    assert (teacher[1].per_video - direct[1].per_video).abs().max() > 1e-6
    assert (teacher[2].per_video - direct[2].per_video).abs().max() > 1e-6


def test_noise_levels_come_from_the_draw_that_was_asked_for(make_denoiser, losses):
    plain, shifted = (losses(make_denoiser(), sigma_draw=Uniform(shift)) for shift in (1.0, 3.0))
    for a, b in zip(plain, shifted, strict=True):
        torch.testing.assert_close(b.sigma, 3 * a.sigma / (1 + 2 * a.sigma))


def test_where_the_last_section_is_made_first_it_is_trained_first_and_told_what_follows(
    make_denoiser, losses, latents, remembered, count_calls
):
    denoiser = make_denoiser(order="f0")
    carried, packed = remembered(denoiser), count_calls(denoiser, "pack")
    assert [section.number for section in losses(denoiser, TeacherForcing())] == [0, 1, 2]
    first, second, third = latents(2, 9, seed=1).split(3, 2)
    assert [torch.equal(*pair) for pair in zip(carried, (third, second), strict=True)] == [True, True]
    windows = [history.window() for history, *_ in packed]
    assert not windows[0].any()
    assert torch.equal(windows[1][:, :, :3], third)
    assert torch.equal(windows[2][:, :, :6], torch.cat([second, third], 2))
    assert not torch.equal(windows[2][:, :, :3], first)


@pytest.mark.parametrize("num_given", [1, 2])
def test_given_sections_are_remembered_as_they_are_and_have_no_loss(
    make_denoiser, losses, remembered, count_calls, num_given
):
    denoiser = make_denoiser()
    whole = losses(denoiser, TeacherForcing())
    carried, forwards = remembered(denoiser), count_calls(denoiser, "trunk")
    excerpt = losses(denoiser, TeacherForcing(), num_given=num_given)
    assert len(forwards) == len(excerpt) == 3 - num_given
    assert len(carried) == 2
    assert [section.number for section in excerpt] == list(range(num_given, 3))
    for section, same in zip(excerpt, whole[num_given:], strict=True):
        torch.testing.assert_close(section.loss, same.loss)


def test_memory_learns_from_given_sections(make_denoiser, losses):
    denoiser = make_denoiser()
    losses(denoiser, TeacherForcing(), num_given=2, backward=True)
    assert denoiser.semantic_pack.window_embed.weight.grad.norm() > 0


def test_a_rehearsal_asks_for_an_earlier_section_by_memory_and_start_image_alone(make_denoiser, losses, count_calls):
    denoiser = make_denoiser()
    packed, seen = count_calls(denoiser, "pack"), count_calls(denoiser, "trunk")
    shown = losses(denoiser, TeacherForcing())
    again = losses(denoiser, TeacherForcing(), rehearsal=1.0)
    torch.testing.assert_close(shown[0].loss, again[0].loss)  # before the first section there is none
    assert not torch.equal(shown[2].loss, again[2].loss)
    for (history, memory, _), (empty, same, _) in list(zip(packed[:3], packed[3:], strict=True))[1:]:
        assert bool(history.recent.any())
        assert not empty.recent.any()
        assert torch.equal(history.start, empty.start)
        assert empty.numbers == history.numbers
        # Memory goes on from what comes next, not from what was drawn again.
        torch.testing.assert_close(memory.read(denoiser.semantic_pack).tokens, same.read(denoiser.semantic_pack).tokens)
    assert len(seen) == 6


def test_sections_are_rehearsed_as_often_as_asked_for_video_by_video(make_denoiser, losses, count_calls):
    denoiser = make_denoiser()
    packed = count_calls(denoiser, "pack")
    for update in range(20):
        losses(denoiser, TeacherForcing(), rehearsal=0.3, noise=KeyedNoise(0, update))
    later = [history for history, *_ in packed if history.recent.any()]
    dropped = torch.stack([history.recent.flatten(1).any(1) for history in later]).logical_not().float()
    assert 0.15 < dropped.mean() < 0.45
    assert 0 < (dropped[:, 0] != dropped[:, 1]).float().mean() < 1


def test_what_is_rehearsed_is_one_of_the_sections_before(make_denoiser, losses, latents, monkeypatch):
    targets = []

    def watched(clean, noise):
        targets.append(clean)
        return noise - clean

    monkeypatch.setattr("mpgen.training.objective.velocity_target", watched)
    denoiser = make_denoiser()
    losses(denoiser, TeacherForcing())
    sections = targets.copy()
    for update in range(6):
        targets.clear()
        losses(denoiser, TeacherForcing(), rehearsal=1.0, noise=KeyedNoise(0, update))
        for number, target in enumerate(targets):
            for video in range(len(target)):
                same = [torch.equal(target[video], section[video]) for section in sections]
                assert sum(same[: max(number, 1)]) == 1
