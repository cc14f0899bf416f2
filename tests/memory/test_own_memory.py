"""A memory with weights of its own is one small file and two lines of YAML: a gated recurrent unit for each token."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from mpgen.backbones.base import BackboneConfig
from mpgen.backbones.rope import placeless
from mpgen.checkpoints import load_for_generation
from mpgen.checkpoints.export import export_model
from mpgen.conditioning import Conditioning
from mpgen.errors import UserError
from mpgen.memory.base import LongTermMemory, MemoryConfig
from mpgen.tensors import Latents, MaskedTokens, Still


@dataclass(frozen=True)
class GatedRecurrence(MemoryConfig):
    """Sizes of the memory.

    Args:
        grid: rows and columns of tokens.
    """

    grid: tuple[int, int] = (2, 2)

    def build(self, backbone: BackboneConfig) -> "GatedRecurrentMemory":
        return GatedRecurrentMemory(self, backbone)


class GatedRecurrentMemory(LongTermMemory):
    """psi is updated by a GRU cell at each place of a coarse grid."""

    def __init__(self, config: GatedRecurrence, backbone: BackboneConfig):
        super().__init__()
        self.grid, self.head_dim = config.grid, backbone.head_dim
        self.embed = nn.Linear(backbone.widths.latents, backbone.width)
        self.cell = nn.GRUCell(backbone.width, backbone.width)

    def seed(self, conditioning: Conditioning, start: Still) -> MaskedTokens:
        seen = self._look(start)
        return self._with(torch.zeros_like(seen), seen)

    def update(self, psi: MaskedTokens, section: Latents, conditioning: Conditioning) -> MaskedTokens:
        return self._with(psi.tokens, self._look(section))

    def tokens(self, psi: MaskedTokens, start: Still) -> MaskedTokens:
        return replace(psi, rotation=placeless(psi.tokens, self.head_dim))

    def _look(self, latents):
        coarse = F.adaptive_avg_pool3d(latents, (1, *self.grid))
        return self.embed(rearrange(coarse, "b c t y x -> b (t y x) c"))

    def _with(self, before, seen):
        tokens = self.cell(seen.flatten(0, 1), before.flatten(0, 1)).view_as(seen)
        return MaskedTokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))


YAML = {"class_path": f"{__name__}.GatedRecurrence", "init_args": {"grid": [2, 2]}}


def test_it_gets_gradients_through_past_sections_and_changes_the_velocity(make_denoiser, make_conditioning, latents):
    denoiser = make_denoiser(memory=GatedRecurrence())
    conditioning, noisy, sigma = make_conditioning(4), latents(1, 3, seed=7), torch.tensor([0.5])

    def velocity(section):
        past = denoiser.begin(latents(1, 1), conditioning, keep=2).after(section)
        return denoiser(noisy, sigma, past.from_memory_alone(torch.tensor([True])).pack(), conditioning)

    seen, other = velocity(latents(1, 3, seed=1)), velocity(latents(1, 3, seed=2))
    assert not torch.allclose(seen, other)
    seen.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in denoiser.memory.parameters())


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda psi: psi.tokens, r"update gave Tensor: wanted MaskedTokens like psi's, \[1, 4, 32\]"),
        (lambda psi: replace(psi, tokens=psi.tokens[..., :5]), r"update gave \[1, 4, 5\]"),
        (lambda psi: replace(psi, tokens=psi.tokens / 0), "update gave numbers that are not finite"),
    ],
    ids=["no psi", "another width", "not finite"],
)
def test_what_update_gives_is_checked(make_denoiser, make_conditioning, latents, monkeypatch, returned, said):
    monkeypatch.setattr(GatedRecurrentMemory, "update", lambda self, psi, section, conditioning: returned(psi))
    past = make_denoiser(memory=GatedRecurrence()).begin(latents(1, 1), make_conditioning(4), keep=2)
    with pytest.raises(UserError, match=f"GatedRecurrentMemory.{said}"):
        past.after(latents(1, 3)).pack()


@pytest.fixture
def module(make_module):
    return lambda: make_module(denoiser=replace(make_module().denoiser_config, memory=GatedRecurrence()))


def test_it_trains_saves_resumes_and_exports(module, fit, make_small_data, tmp_path):
    fit(module(), make_small_data(), tmp_path / "whole", 4)
    fit(module(), make_small_data(), tmp_path / "parts", 2)
    fit(module(), make_small_data(), tmp_path / "parts", 4, ckpt_path=tmp_path / "parts" / "last.ckpt")
    whole, resumed = (
        load_for_generation(tmp_path / name / "last.ckpt", torch.device("cpu")) for name in ("whole", "parts")
    )
    assert isinstance(whole.denoiser.memory, GatedRecurrentMemory)
    for name, tensor in whole.denoiser.state_dict().items():
        assert torch.equal(tensor, resumed.denoiser.state_dict()[name])

    export_model(whole, tmp_path / "exported")
    again = load_for_generation(tmp_path / "exported", torch.device("cpu"))
    for name, tensor in whole.denoiser.state_dict().items():
        assert torch.equal(tensor, again.denoiser.state_dict()[name])
