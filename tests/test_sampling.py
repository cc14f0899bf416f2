import math
from itertools import pairwise

import pytest
import torch

from mpgen.errors import UserError
from mpgen.flow import sigma_schedule
from mpgen.sampling import (
    SAMPLERS,
    block_noise,
    check_pyramid,
    euler,
    helios_distilled,
    unipc,
)

SHAPE = (2, 3, 2, 4, 5)
ALONG_THE_PATH = {name: sampler for name, sampler in SAMPLERS.items() if sampler is not helios_distilled}


class Counted:
    """The exact velocity for data drawn from N(mean, std^2): sampling has a closed form to compare with."""

    def __init__(self, mean=0.7, std=0.5):
        self.mean, self.std, self.calls = mean, std, []

    def __call__(self, x, sigma):
        self.calls.append(sigma)
        variance = (1 - sigma) ** 2 * self.std**2 + sigma**2
        centred = x - (1 - sigma) * self.mean
        clean = self.mean + (1 - sigma) * self.std**2 / variance * centred
        noise = sigma / variance * centred
        return noise - clean

    def exact(self, noise):
        return self.mean + self.std * noise


@pytest.fixture
def noise():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("sampler", ALONG_THE_PATH.values(), ids=ALONG_THE_PATH)
def test_a_sampler_evaluates_the_network_once_a_step_and_never_at_sigma_0(sampler, noise):
    velocity = Counted()
    sampler(velocity, noise, sigma_schedule(6))
    assert velocity.calls == sigma_schedule(6).double().tolist()[:-1]


@pytest.mark.parametrize("sampler", ALONG_THE_PATH.values(), ids=ALONG_THE_PATH)
def test_a_constant_velocity_is_integrated_exactly_by_every_sampler_in_one_step_or_many(sampler, noise):
    clean = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for steps in (1, 2, 5):
        # On one straight path the velocity is noise - clean everywhere.
        out = sampler(lambda x, sigma: (x - clean) / sigma, noise, sigma_schedule(steps))
        torch.testing.assert_close(out, clean)


@pytest.mark.parametrize("sampler", ALONG_THE_PATH.values(), ids=ALONG_THE_PATH)
def test_a_sampler_comes_closer_to_the_exact_sample_with_more_steps(sampler, noise):
    errors = []
    for steps in (10, 20, 40):
        velocity = Counted()
        errors.append((sampler(velocity, noise, sigma_schedule(steps, 3.0)) - velocity.exact(noise)).abs().max().item())
    assert errors[0] > errors[1] > errors[2]


def test_unipc_is_closer_than_euler_at_framepacks_25_steps_and_shift_7(noise):
    velocity = Counted()
    error = {
        name: (sampler(velocity, noise, sigma_schedule(25, 7.0)) - velocity.exact(noise)).abs().max().item()
        for name, sampler in ALONG_THE_PATH.items()
    }
    assert error["unipc"] < 0.7 * error["euler"]


def test_helios_distilled_takes_equally_many_steps_at_three_resolutions():
    x, sizes = torch.randn(1, 3, 2, 8, 16, generator=torch.Generator().manual_seed(0)), []

    def velocity(x, told):
        sizes.append(tuple(x.shape[3:]))
        return torch.zeros_like(x)

    assert helios_distilled(velocity, x, sigma_schedule(6)).shape == x.shape
    assert sizes == [(2, 4)] * 2 + [(4, 8)] * 2 + [(8, 16)] * 2
    for given, complaint in (((4, 8, 8), "--steps 4"), ((6, 12, 8), "12x8 latents"), ((6, 8, 12), "8x12 latents")):
        with pytest.raises(UserError, match=complaint):
            check_pyramid(*given)


def test_the_pyramids_noise_is_helios_for_blocks_of_latents_and_independent_of_their_means():
    rows = torch.eye(4).reshape(4, 1, 1, 2, 2)  # each latent of a block in turn
    made = block_noise(rows).reshape(4, 4)
    gamma = 1 / 3
    torch.testing.assert_close(made.T @ made, torch.eye(4) * (1 + gamma) - gamma)
    torch.testing.assert_close(made @ torch.ones(4), torch.zeros(4))


def reference_unipc(velocity, x, sigmas, order):
    """UniPC-bh1 written out from its paper with matrices R and vectors b, as FramePack's code arranges it."""
    order = min(order, len(sigmas) - 2)
    x = x.clone()
    outputs, times = [], []
    for i, sigma in enumerate(sigmas[:-1]):
        if i == 0:
            outputs, times = [x - sigma * velocity(x, sigma)], [sigma]
            continue
        p = min(i, order)
        h = -math.log(sigma) + math.log(times[-1])
        r = torch.tensor(
            [(math.log(times[-1]) - math.log(times[-(k + 1)])) / h for k in range(1, p)] + [1.0], dtype=torch.float64
        )
        d = [(outputs[-(k + 1)] - outputs[-1]) / r[k - 1] for k in range(1, p)]
        phi, factorial, rows, b = math.expm1(-h) / -h - 1, 1.0, [], []
        for k in range(1, p + 1):
            rows.append(r ** (k - 1))
            b.append(phi * factorial / -h)
            factorial *= k + 1
            phi = phi / -h - 1 / factorial
        rows, b = torch.stack(rows), torch.tensor(b, dtype=torch.float64)
        base = sigma / times[-1] * x - math.expm1(-h) * outputs[-1]
        predictor = torch.tensor([0.5]) if p == 2 else torch.linalg.solve(rows[:-1, :-1], b[:-1])
        guess = base + h * sum((predictor[k] * d[k] for k in range(p - 1)), torch.zeros_like(x))
        new = guess - sigma * velocity(guess, sigma)
        corrector = torch.tensor([0.5]) if p == 1 else torch.linalg.solve(rows, b)
        x = base + h * sum(corrector[k] * dk for k, dk in enumerate([*d, new - outputs[-1]]))
        outputs.append(new)
        times.append(sigma)
    return outputs[-1]


@pytest.mark.parametrize("steps", [2, 3, 4, 9])
def test_unipc_is_its_listing(steps, noise):
    sigmas = sigma_schedule(steps, 2.0)
    expected = reference_unipc(Counted(), noise, sigmas.double().tolist(), 3)
    torch.testing.assert_close(unipc(Counted(), noise, sigmas), expected, rtol=1e-9, atol=1e-9)


def test_euler_is_the_sum_of_its_steps(noise):
    sigmas = sigma_schedule(3, 2.0)
    x = noise.clone()
    for a, b in zip(sigmas.double()[:-1], sigmas.double()[1:], strict=True):
        x = x + (b - a) * Counted()(x, float(a))
    torch.testing.assert_close(euler(Counted(), noise, sigmas), x)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_converges_to_a_fine_reference_at_the_order_it_claims(noise, order):
    """Between sigma 1 and 0.4; what is returned is the clean prediction there, so the last step's size is no error."""

    def velocity(x, sigma):  # of data at -1 and 1: not linear, so that no order is exact
        spread = (1 - sigma) / sigma**2
        return (x - torch.tanh(spread * x)) / sigma

    def made(steps, order):
        levels = torch.cat([torch.logspace(0, math.log10(0.4), steps + 1, dtype=torch.float64), torch.zeros(1)])
        return unipc(velocity, noise, levels, order)

    reference = made(4000, 3)
    errors = [(made(steps, order) - reference).square().mean().sqrt().item() for steps in (40, 80, 160, 320)]
    measured = [math.log2(a / b) for a, b in pairwise(errors)]
    assert measured[-1] > order - 0.15, measured
    assert errors[-1] < errors[0] / 2 ** (2.5 * order), errors
