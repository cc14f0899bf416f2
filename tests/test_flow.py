import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpgen.flow import (
    LogitNormal,
    Uniform,
    add_noise,
    shift_for_tokens,
    shift_sigma,
    sigma_schedule,
    to_clean,
    velocity_target,
)

B, C, T, H, W = 2, 4, 3, 5, 6


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(B, C, T, H, W, generator=generator), torch.randn(B, C, T, H, W, generator=generator)


@pytest.mark.parametrize("shape", [(B,), (B, T)], ids=["per video", "per frame"])
def test_the_true_velocity_leads_back_to_the_clean_latents(pair, shape):
    clean, noise = pair
    sigma = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    noisy = add_noise(clean, noise, sigma)
    torch.testing.assert_close(to_clean(noisy, sigma, velocity_target(clean, noise)), clean)


def test_the_path_begins_at_the_data_and_ends_in_noise(pair):
    clean, noise = pair
    torch.testing.assert_close(add_noise(clean, noise, torch.zeros(B)), clean)
    torch.testing.assert_close(add_noise(clean, noise, torch.ones(B)), noise)


def test_velocity_is_the_derivative_of_the_path(pair):
    clean, noise = (x.double() for x in pair)
    sigma, step = torch.full((B,), 0.37, dtype=torch.float64), 1e-6
    slope = (add_noise(clean, noise, sigma + step) - add_noise(clean, noise, sigma - step)) / (2 * step)
    torch.testing.assert_close(slope, velocity_target(clean, noise), atol=1e-6, rtol=1e-6)


def test_the_error_of_the_one_step_estimate_is_sigma_times_the_error_of_the_velocity(pair):
    clean, noise = pair
    sigma = torch.tensor([0.2, 0.9])
    wrong = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    estimate = to_clean(add_noise(clean, noise, sigma), sigma, velocity_target(clean, noise) + wrong)
    torch.testing.assert_close(estimate - clean, -sigma[:, None, None, None, None] * wrong)


def test_the_paper_writes_the_same_estimate_with_t_for_1_minus_sigma(pair):
    clean, noise = pair
    t = torch.tensor([0.3, 0.8])[:, None, None, None, None]
    x_t, u = t * clean + (1 - t) * noise, clean - noise  # paper §4.2.1
    torch.testing.assert_close(to_clean(x_t, 1 - t.flatten(), -u), x_t + (1 - t) * u)


def test_framepacks_shift_is_7_for_480p_and_the_table_below_it():
    table = {14040: 7.0, 5760: 4.19, 2304: 2.33, 576: 1.74}  # noisy tokens -> shift, facts of the released code
    assert {n: round(shift_for_tokens(n), 2) for n in table} == table


@given(st.floats(0, 1), st.floats(0.2, 20))
def test_a_shift_keeps_the_ends_and_the_order(sigma, shift):
    s = shift_sigma(torch.tensor([0.0, sigma, 1.0], dtype=torch.float64), shift)
    assert s[0] == 0
    assert math.isclose(s[2], 1)
    assert 0 <= s[1] <= 1
    back = shift_sigma(s, 1 / shift)
    assert math.isclose(back[1], sigma, abs_tol=1e-9)


@given(st.integers(1, 60), st.floats(0.5, 10))
def test_a_schedule_falls_from_1_to_0(steps, shift):
    sigmas = sigma_schedule(steps, shift)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_logit_normal_draws_have_their_median_at_the_shifted_mean():
    uniform = torch.linspace(0.0005, 0.9995, 1000)
    sigma = LogitNormal(mean=0.0, std=1.0, shift=7.0)(uniform)
    assert sigma.median() == pytest.approx(0.875, abs=2e-3)
    assert (sigma > 0.8).float().mean() == pytest.approx(0.71, abs=0.01)  # the share that facts of the backbone give
    assert (sigma.diff() > 0).all()


def test_uniform_draws_are_what_they_are_given():
    uniform = torch.rand(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Uniform()(uniform), uniform)
