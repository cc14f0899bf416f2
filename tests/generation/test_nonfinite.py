import pytest
import torch

from mpgen.errors import FailedError
from mpgen.generation.rollout import Sampling, rollout
from mpgen.sampling import euler


def test_generation_ends_with_the_section_that_is_not_finite(make_denoiser, make_conditioning, latents):
    denoiser = make_denoiser()
    forward, calls = denoiser.forward, []

    def breaks(*given):
        calls.append(given)
        velocity = forward(*given)
        return velocity * float("nan") if len(calls) == 4 else velocity

    denoiser.forward = breaks
    sections = rollout(denoiser, latents(1, 1), make_conditioning(4), 3, Sampling(euler, 2, 1.0, 4.0, 0))
    assert torch.isfinite(next(sections)).all()
    with pytest.raises(FailedError, match="section 1 came out with numbers that are not finite") as error:
        next(sections)
    assert error.value.status == 1
