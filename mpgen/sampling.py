"""Samplers: plain functions of (velocity_fn, x, sigmas). The network knows nothing of them, they know nothing of it.

`velocity_fn(x, sigma)` returns the velocity at `x` for one noise level; `sigmas` goes down from 1 to 0. All samplers
evaluate it once a step, `len(sigmas) - 1` times in all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mpgen.errors import UserError
from mpgen.flow import mu_for_tokens, shift_sigma
from mpgen.tensors import Latents

ALMOST_NOISE = 1e-8  # of the clean end in pure noise, so that its time is finite
Level = float | Float[Tensor, " t"] | Float[Tensor, "b t"]  # of all latent frames, of each, or of each video's
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


@dataclass(frozen=True)
class PyramidStage:
    """A third of Helios' way from noise to clean, at one resolution, as in diffusers' `HeliosDMDScheduler`.

    Args:
        first, last: noise level that the network is told at the stage's own levels 1 and 0.
        kept: of the section that comes from the coarser stage.
        noise: that is added to it, zero on average over each 2 x 2 latents.
    """

    first: float
    last: float
    kept: float
    noise: float

    def levels(self, steps: int, num_tokens: int) -> list[tuple[float, float]]:
        """The stage's own level at each step, shifted by its tokens, and what the network is told."""
        own = torch.linspace(TOP, TOP / TRAINED, steps + 1, dtype=torch.float64)[:-1]
        shifted = shift_sigma(own, mu_for_tokens(num_tokens)).tolist()
        # The network saw whole numbers of thousandths.
        return [(s, int(TRAINED * (self.last + s * (self.first - self.last))) / TRAINED) for s in shifted]


TOP, TRAINED, NUM_STAGES = 0.999, 1000, 3  # the highest noise level, and into how many they are divided
SPREAD = 2.0  # sqrt(1 + 1 / gamma) for Helios' gamma, 1/3


def pyramid_stages() -> tuple[PyramidStage, ...]:
    """Helios' three stages, the coarsest first.

    A stage begins where the one before ended, but for the noise that doubling the resolution takes away; so the levels
    that the network is told are divided among the stages by their lengths.
    """
    bounds = [TOP * (1 - int(TRAINED * i / NUM_STAGES) / TRAINED) for i in range(NUM_STAGES)]
    kept = [1 / (SPREAD * sigma + 1 - sigma) for sigma in bounds]
    begins = [TOP, *[1 - k * (1 - sigma) for k, sigma in zip(kept[1:], bounds[1:], strict=True)]]
    lengths = [begin - end for begin, end in zip(begins, [*bounds[1:], 0.0], strict=True)]
    told = [TOP * (1 - min(int(TRAINED * sum(lengths[:i]) / sum(lengths)), TRAINED - 1) / TRAINED) for i in range(4)]
    return tuple(
        PyramidStage(first, last + (first - last) / TRAINED, k, k * sigma * math.sqrt(3))
        for (first, last), k, sigma in zip(pairwise(told), kept, bounds, strict=True)
    )


def check_pyramid(steps: int, rows: int, columns: int) -> None:
    """Raises UserError for a number of steps or a size in latents that `helios_distilled` cannot take."""
    if steps % NUM_STAGES:
        raise UserError(f"--steps {steps}: wanted a multiple of {NUM_STAGES} for --sampler helios_distilled, such as 6")
    if rows % 8 or columns % 8:
        raise UserError(
            f"--sampler helios_distilled begins with a quarter of {rows}x{columns} latents, in patches of 2x2: wanted "
            "multiples of 8, such as --height_px 384 --width_px 640"
        )


def helios_distilled(velocity_fn: VelocityFn, x: Latents, sigmas: Float[Tensor, " s"]) -> Latents:
    """Helios-Distilled's few steps, at a quarter, half and whole resolution; of `sigmas` only the number counts.

    Each step goes to its estimate of the clean end and back to the next level with the stage's first noise. The noise
    of the finer stages is what averaging takes from `x`: white noise is its means and, independent of them, the rest.

    Raises:
        UserError: see `check_pyramid`.
    """
    check_pyramid(len(sigmas) - 1, *x.shape[3:])
    steps = (len(sigmas) - 1) // NUM_STAGES
    noises = [x]  # white, of each resolution
    for _ in range(NUM_STAGES - 1):
        noises.append(2 * F.avg_pool3d(noises[-1], (1, 2, 2)))
    x = noises[-1]
    for stage, white in zip(pyramid_stages(), reversed(noises), strict=True):
        levels = stage.levels(steps, x[0, 0].numel() // 4)  # tokens before the doubling, as released
        if white is not x:
            x = stage.kept * _doubled(x) + stage.noise * block_noise(white)
        start = x
        for (sigma, told), (following, _) in pairwise([*levels, (0.0, 0.0)]):
            clean = x - sigma * velocity_fn(x, told)
            x = (1 - following) * clean + following * start
    return x


def block_noise(white: Latents) -> Latents:
    """White noise made zero on average over each 2 x 2 latents, and of the same size: Helios' gamma of 1/3."""
    return math.sqrt(4 / 3) * (white - _doubled(F.avg_pool3d(white, (1, 2, 2))))


def _doubled(x: Latents) -> Float[Tensor, "b c t 2*h 2*w"]:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


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
SAMPLERS: dict[str, Sampler] = {
    "euler": euler,
    "unipc": unipc,
    "unipc_flow": unipc_flow,
    "helios_distilled": helios_distilled,
}
