import pytest
import torch

from mpgen.flow import add_noise
from mpgen.sampling import euler
from mpgen.training.forcing import DirectForcing, SectionPass, StudentForcing, TeacherForcing


@pytest.fixture
def make_pass(latents):
    """One section of two videos, whose network's every velocity is `answer(x, sigma)`."""

    def make(answer, sigma=(0.3, 0.9)) -> SectionPass:
        clean, noise, sigma = latents(2, 3), latents(2, 3, seed=1), torch.tensor(sigma)
        noisy = add_noise(clean, noise, sigma)
        return SectionPass(clean, noise, noisy, sigma, latents(2, 3, seed=2), answer)

    return make


def no_forward(x, sigma):
    raise AssertionError("an extra forward")


def test_with_the_true_velocity_direct_forcing_carries_the_data(make_pass, latents):
    section = make_pass(no_forward)
    exact = SectionPass(
        section.clean, section.noise, section.noisy, section.sigma, section.noise - section.clean, no_forward
    )
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
