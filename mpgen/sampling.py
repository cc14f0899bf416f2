"""Samplers: plain functions of (velocity_fn, x, sigmas). The network knows nothing of them, they know nothing of it.

`velocity_fn(x, sigma)` returns the velocity at `x` for one noise level; `sigmas` goes down from 1 to 0. All samplers
evaluate it once a step, `len(sigmas) - 1` times in all.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.tensors import Latents

ALMOST_NOISE = 1e-8  # of the clean end in pure noise, so that its time is finite
Level = float | Float[Tensor, " t"]  # of all latent frames, or of each
VelocityFn = Callable[[Latents, Level], Latents]
Sampler = Callable[[VelocityFn, Latents, Float[Tensor, " s"]], Latents]


def euler(velocity_fn: VelocityFn, x: Latents, sigmas: Float[Tensor, " s"]) -> Latents:
    """First order: follow the velocity in straight pieces."""
    levels = sigmas.double().tolist()
    for sigma, following in pairwise(levels):
        x = x + (following - sigma) * velocity_fn(x, sigma)
    return x


def euler_by_frame(velocity_fn: VelocityFn, x: Latents, sigmas: Float[Tensor, "s t"]) -> Latents:
    """`euler` where every latent frame has noise levels of its own, and need not begin at 1 nor end at 0."""
    for sigma, following in pairwise(sigmas.to(x.device)):
        x = x + (following - sigma)[None, None, :, None, None] * velocity_fn(x, sigma)
    return x


def unipc(velocity_fn: VelocityFn, x: Latents, sigmas: Float[Tensor, " s"], max_order: int = 3) -> Latents:
    """UniPC with B(h) = h ("bh1", arXiv 2302.04867), predicting the clean end, on FramePack's time lambda = -log sigma.

    Args:
        max_order: clean predictions used at most; also at most the number of steps minus one. It warms up 1, 2, 3.
    """
    return _unipc(velocity_fn, x, sigmas, max_order, alpha=lambda sigma: 1.0, b=lambda h: h)


def unipc_flow(velocity_fn: VelocityFn, x: Latents, sigmas: Float[Tensor, " s"]) -> Latents:
    """UniPC with B(h) = e^h - 1 ("bh2"), second order, on the flow's time log((1 - sigma) / sigma), as in Helios."""
    alpha, b = (lambda sigma: max(1 - sigma, ALMOST_NOISE)), (lambda h: -math.expm1(-h))
    return _unipc(velocity_fn, x, sigmas, 2, alpha, b)


def _unipc(
    velocity_fn: VelocityFn,
    x: Latents,
    sigmas: Float[Tensor, " s"],
    max_order: int,
    alpha: Callable[[float], float],
    b: Callable[[float], float],
) -> Latents:
    """Each step predicts the next point from the clean predictions so far, evaluates the network there, corrects it.

    The last clean prediction is returned, so nothing is evaluated at sigma 0.

    Args:
        max_order: clean predictions used at most.
        alpha: how much of the clean end is in a point at a noise level; time is lambda = log(alpha / sigma).
        b: UniPC's B(h) of a step h in lambda.
    """
    levels = sigmas.double().tolist()[:-1]

    def later(sigma: float, following: float) -> float:
        return math.log(alpha(following) / alpha(sigma) * (sigma / following))

    max_order = max(min(max_order, len(levels) - 1), 1)
    past = [(levels[0], x - levels[0] * velocity_fn(x, levels[0]))]
    for i, sigma in enumerate(levels[1:], start=1):
        order = min(i, max_order)
        (before, clean), older = past[-1], past[-order:-1][::-1]
        h, kept = later(before, sigma), sigma / before
        ratios = [later(before, s) / h for s, _ in older]
        differences = [(c - clean) / r for (_, c), r in zip(older, ratios, strict=True)]
        base = kept * x + (alpha(sigma) - kept * alpha(before)) * clean
        scale = alpha(sigma) * b(h)

        moments = _moments(h, b(h), order)
        predictor = [0.5] if order == 2 else _solve(ratios, moments[:-1])
        predicted = base + scale * sum(
            (w * d for w, d in zip(predictor, differences, strict=True)), torch.zeros_like(x)
        )
        now = predicted - sigma * velocity_fn(predicted, sigma)

        corrector = [0.5] if order == 1 else _solve([*ratios, 1.0], moments)
        x = base + scale * sum(w * d for w, d in zip(corrector, [*differences, now - clean], strict=True))
        past = [*past[1 - max_order :], (sigma, now)] if max_order > 1 else [(sigma, now)]
    return past[-1][1]


def _moments(h: float, b: float, order: int) -> list[float]:
    """k! phi_(k+1)(-h) for k = 1 ... order, divided by -B(h): the right-hand side of UniPC's linear system."""
    phi, factorial, moments = math.expm1(-h) / -h - 1, 1.0, []
    for k in range(1, order + 1):
        moments.append(phi * factorial / -b)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    return moments


def _solve(ratios: list[float], moments: list[float]) -> list[float]:
    if not ratios:
        return []
    vandermonde = torch.tensor([[r**k for r in ratios] for k in range(len(ratios))], dtype=torch.float64)
    return torch.linalg.solve(vandermonde, torch.tensor(moments, dtype=torch.float64)).tolist()


# All there are, by the names that `mpgen generate --sampler` takes; a new one is a function and a line here.
SAMPLERS: dict[str, Sampler] = {"euler": euler, "unipc": unipc, "unipc_flow": unipc_flow}
