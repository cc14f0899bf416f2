"""Noise that depends on what it is for, never on who asks: keyed by seed, step, video and section.

So a run repeats, resumes and moves to another number of processes with the same numbers.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.tensors import Latents


@dataclass(frozen=True)
class Draw:
    """One section's random numbers.

    Args:
        noise: standard normal, of the section's shape.
        uniform: one number in (0, 1) a video, from which the noise level is made.
    """

    noise: Latents
    uniform: Float[Tensor, " b"]


@dataclass(frozen=True)
class KeyedNoise:
    """The random numbers of one step.

    Args:
        seed: of the run.
        step: how many optimizer steps came before; or a word, such as "validation".
    """

    seed: int
    step: int | str

    def draw(self, uids: Sequence[str], section: int, like: Latents) -> Draw:
        """Random numbers for section `section` (from 0) of each video, on the device of `like`."""
        noise, uniform = [], []
        for uid in uids:
            generator = keyed_generator(self.seed, self.step, uid, section)
            noise.append(torch.randn(like.shape[1:], generator=generator))
            uniform.append(torch.rand((), generator=generator))
        return Draw(torch.stack(noise).to(like), torch.stack(uniform).to(like.device))

    def of_history(self, uids: Sequence[str], section: int, like: Latents) -> Latents:
        """Standard normal noise for what section `section` is shown of its history."""
        generators = (keyed_generator(self.seed, self.step, uid, section, "history") for uid in uids)
        return torch.stack([torch.randn(like.shape[1:], generator=generator) for generator in generators]).to(like)

    def uniform(self, uids: Sequence[str], section: int, purpose: str) -> Float[Tensor, " b"]:
        """One number in [0, 1) for each video, for something else that is random in section `section`."""
        generators = (keyed_generator(self.seed, self.step, uid, section, purpose) for uid in uids)
        return torch.stack([torch.rand((), generator=generator) for generator in generators])

    def generators(self, uids: Sequence[str], section: int) -> list[torch.Generator]:
        """A generator for each video, for what else is random in section `section`."""
        return [keyed_generator(self.seed, self.step, uid, section, "forcing") for uid in uids]


def keyed_generator(*key: object) -> torch.Generator:
    """A CPU generator whose numbers follow from `key` alone, on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
