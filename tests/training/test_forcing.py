from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch

from mpgen.errors import UserError
from mpgen.flow import add_noise
from mpgen.sampling import euler
from mpgen.training.estimates import EstimateInSteps, ResamplingForcing, Sometimes
from mpgen.training.forcing import (
    CorruptedHistory,
    DirectForcing,
    Forcing,
    RecycledErrors,
    SectionPass,
    StudentForcing,
    TeacherForcing,
)
from mpgen.training.noise import KeyedNoise


@pytest.fixture
def make_pass(latents):
    """One section of two videos, whose network's every velocity is `answer(x, sigma)`."""

    def make(answer, sigma=(0.3, 0.9), seed=0) -> SectionPass:
        clean, noise, sigma = latents(2, 3), latents(2, 3, seed=1), torch.tensor(sigma)
        noisy = add_noise(clean, noise, sigma)
        generators = partial(KeyedNoise(seed, 0).generators, ["a", "b"], 0)
        return SectionPass(clean, noise, noisy, sigma, latents(2, 3, seed=2), answer, generators)

    return make


def no_forward(x, sigma):
    raise AssertionError("an extra forward")


def test_with_the_true_velocity_direct_forcing_carries_the_data(make_pass, latents):
    section = make_pass(no_forward)
    exact = replace(section, velocity=section.noise - section.clean)
    torch.testing.assert_close(DirectForcing().carry(exact), section.clean)


def test_direct_forcing_carries_the_data_above_its_bound_video_by_video(make_pass):
    section = make_pass(no_forward)
    carried, unbounded = DirectForcing(sigma_max=0.5).carry(section), DirectForcing().carry(section)
    assert torch.equal(carried[0], unbounded[0])
    assert torch.equal(carried[1], section.clean[1])
    assert (unbounded - section.clean).abs().amax((1, 2, 3, 4)).min() > 0.1


def test_teacher_forcing_asks_the_network_nothing(make_pass):
    section = make_pass(no_forward)
    assert TeacherForcing().carry(section) is section.clean


def test_student_forcing_samples_from_the_noise_of_the_loss_in_its_steps(make_pass):
    levels = []

    def answer(x, sigma):
        levels.append(sigma)
        return 0.5 * x + sigma

    section = make_pass(answer)
    carried = StudentForcing(steps=4, shift=3.0).carry(section)
    asked = list(levels)
    assert asked == pytest.approx([1.0, 9 / 10, 3 / 4, 1 / 2])
    torch.testing.assert_close(carried, euler(answer, section.noise, torch.tensor([*asked, 0.0])))


def straight(section):
    """The velocity towards the data from anywhere on the path, at every frame's own noise level."""
    return lambda x, level: (x - section.clean) / level[:, None, :, None, None]


def test_an_estimate_in_steps_begins_with_the_velocity_of_the_loss_and_goes_on_from_there(make_pass):
    section = make_pass(no_forward)
    torch.testing.assert_close(EstimateInSteps(1).carry(section), DirectForcing().carry(section))
    levels = []

    def answer(x, level):
        levels.append(level)
        return straight(section)(x, level)

    torch.testing.assert_close(EstimateInSteps(3).carry(replace(section, velocity_fn=answer)), section.clean)
    assert [level[:, 0].tolist() for level in levels] == [pytest.approx([s, 3 * s]) for s in (0.2, 0.1)]


def test_sometimes_the_forcing_is_asked_and_else_the_data_is_carried(make_pass):
    forced, carried = 0, DirectForcing().carry(make_pass(no_forward))
    for seed in range(40):
        section = make_pass(no_forward, seed=seed)
        for mixed, own, true in zip(Sometimes(0.25).carry(section), carried, section.clean, strict=True):
            assert torch.equal(mixed, own) or torch.equal(mixed, true)
            forced += torch.equal(mixed, own)
    assert 8 <= forced <= 32  # of 80
    assert torch.equal(Sometimes(1.0).carry(section), carried)


def test_resampling_noises_the_data_anew_and_lets_the_model_denoise_it(make_pass):
    seen, section = [], make_pass(no_forward)

    def answer(x, level):
        seen.append((x, level))
        return straight(section)(x, level)

    section = replace(section, velocity_fn=answer)
    for _ in range(2):
        torch.testing.assert_close(ResamplingForcing(steps=2).carry(section), section.clean)
    (x, level), (again, _) = seen[0], seen[2]
    assert torch.equal(x, again)  # keyed by the video, not by what came before
    assert not torch.isclose(level[:, 0], section.sigma).any()
    noise = (x - (1 - level[:, None, :, None, None]) * section.clean) / level[:, None, :, None, None]
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert not torch.allclose(noise, section.noise)


@pytest.mark.parametrize("forcing", [EstimateInSteps(2), ResamplingForcing()], ids=["in steps", "resampling"])
def test_the_network_takes_a_noise_level_of_each_video(make_denoiser, losses, forcing):
    carried = [section.carried_error for section in losses(make_denoiser(), forcing)]
    assert all(error.isfinite().all() and (error > 0).all() for error in carried if error is not None)


def test_a_corrupted_history_is_keyed_by_video_and_damaged_as_told(make_pass):
    section = make_pass(no_forward)
    carried = CorruptedHistory().carry(section)
    assert torch.equal(carried, CorruptedHistory().carry(section))
    assert not torch.equal(carried, CorruptedHistory().carry(make_pass(no_forward, seed=1)))
    assert CorruptedHistory(clean=1.0, degraded=0.0).carry(section).equal(section.clean)

    noised = CorruptedHistory(clean=0.0, degraded=0.0, sigma_max=0.5).carry(section)
    by_frame = (noised - section.clean).std((1, 3, 4))
    assert bool((by_frame > 0).all())
    assert bool((by_frame < 0.8).all())  # at 0.5: half of what lies between unit data and unit noise
    assert by_frame.flatten().diff().abs().min() > 1e-3  # every frame has its own level

    faded = CorruptedHistory(clean=0.0, degraded=1.0, blur=1.0).carry(section)
    mean = section.clean.mean((2, 3, 4), keepdim=True)
    scale = (faded - mean) / (section.clean - mean)
    torch.testing.assert_close(scale, scale[:, :1, :1, :1, :1].expand_as(scale), atol=1e-3, rtol=0)
    assert 0.3 <= float(scale.min()) < float(scale.max()) <= 1.7
    blurred = CorruptedHistory(clean=0.0, degraded=1.0, blur=0.5, contrast=0.0).carry(section)
    before, after = section.clean.std((2, 3, 4)), blurred.std((2, 3, 4))
    assert bool((after <= before).all())  # equal where the scale that was drawn rounds to 1
    assert bool((after < 0.6 * before).any())


def test_recycled_errors_are_another_videos(make_pass):
    section = make_pass(no_forward)
    error = DirectForcing().carry(section) - section.clean
    recycled = RecycledErrors(clean=0.0).carry(section)
    torch.testing.assert_close(recycled, section.clean + error.flip(0))
    assert RecycledErrors(clean=1.0).carry(section).equal(section.clean)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: CorruptedHistory(clean=0.6, degraded=0.5),
        lambda: CorruptedHistory(sigma_max=1.5),
        lambda: CorruptedHistory(blur=0.0),
        lambda: RecycledErrors(clean=-0.1),
    ],
)
def test_shares_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="wanted"):
        wrong()


@dataclass(frozen=True)
class Halfway(Forcing):
    """A forcing of one's own: halfway between the data and the estimate."""

    def carry(self, section: SectionPass) -> torch.Tensor:
        return (section.clean + DirectForcing().carry(section)) / 2


def test_a_forcing_of_ones_own_is_one_class(make_denoiser, losses):
    own, teacher, direct = (
        losses(make_denoiser(), forcing) for forcing in (Halfway(), TeacherForcing(), DirectForcing())
    )
    errors = [[float(section.carried_error.mean()) for section in run[:1]] for run in (own, teacher, direct)]
    assert errors[1] == [0.0]
    torch.testing.assert_close(torch.tensor(errors[0]), torch.tensor(errors[2]) / 2)


def test_what_a_forcing_gives_is_checked(make_denoiser, losses):
    @dataclass(frozen=True)
    class TooShort(Forcing):
        def carry(self, section: SectionPass) -> torch.Tensor:
            return section.clean[:, :, :1]

    with pytest.raises(UserError, match=r"TooShort\.carry gave \[2, 3, 1, 6, 10\]: wanted latents of shape"):
        losses(make_denoiser(), TooShort())


def test_numbers_that_are_not_finite_are_the_forcings_fault_only_if_it_made_them(make_denoiser, losses):
    @dataclass(frozen=True)
    class Divides(Forcing):
        def carry(self, section: SectionPass) -> torch.Tensor:
            return section.clean / 0

    with pytest.raises(UserError, match=r"Divides\.carry gave numbers that are not finite"):
        losses(make_denoiser(), Divides())
