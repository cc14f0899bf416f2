"""Classifier-free guidance of a backbone that was not distilled: two branches in one forward."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mpgen.checkpoints import LoadedModel
from mpgen.encoders.tiny import TinyEncoders
from mpgen.errors import UserError
from mpgen.generation.denoising import Denoising
from mpgen.generation.guidance import guided_velocity
from mpgen.generation.pipeline import Job
from mpgen.generation.rollout import Sampling, rollout
from mpgen.sampling import euler


@pytest.fixture
def wan(make_denoiser, wan_backbone):
    return make_denoiser(backbone=wan_backbone).eval()


@pytest.fixture
def make_text(make_conditioning):
    """Texts of two videos and, beside, what to lead away from, which is longer or shorter."""

    def make(*negative: int, seed: int = 9):
        plain = replace(make_conditioning(4, 2), pooled=None, image=None)
        other = replace(make_conditioning(*negative, seed=seed), pooled=None, image=None) if negative else None
        return replace(plain, negative=other)

    return make


def made(denoiser, start, conditioning, scale: float, steps: int = 2):
    return list(rollout(denoiser, start, conditioning, 2, Sampling(euler, steps, 1.0, scale, 0)))


@pytest.mark.parametrize("lengths", [(1, 1), (6, 3)])
def test_it_leads_away_from_the_negative_branch_by_its_scale(make_denoiser, wan_backbone, latents, make_text, lengths):
    wan = make_denoiser(backbone=wan_backbone, memory=None).eval()  # a memory would begin with the negative text alone
    start, conditioning = latents(2, 1), make_text(*lengths)
    plain, negative = (replace(branch, negative=None) for branch in (conditioning, conditioning.negative))
    first = [made(wan, start, given, 1.0, steps=1)[0] for given in (plain, negative)]
    wanted = first[1] + 3.0 * (first[0] - first[1])  # after one step from the same noise the sections are linear in it
    torch.testing.assert_close(made(wan, start, conditioning, 3.0, steps=1)[0], wanted, atol=2e-5, rtol=0)
    assert (first[0] - first[1]).abs().max() > 1e-4


def test_both_branches_are_one_forward_and_the_text_is_read_once_a_section(wan, latents, make_text, count_calls):
    forwards = count_calls(type(wan.backbone), "trunk")
    read = count_calls(type(wan.backbone.blocks[0].attn2), "keys_values")
    made(wan, latents(2, 1), make_text(1, 1), 3.0, steps=3)
    assert [len(given[1]) for given in forwards] == [4] * 6
    assert sum(given[0] is wan.backbone.blocks[0].attn2 for given in read) == 2


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_without_scale_or_negative_branch_there_is_one(wan, latents, make_text, count_calls, scale):
    forwards = count_calls(type(wan.backbone), "trunk")
    made(wan, latents(2, 1), make_text(1, 1) if scale == 1 else make_text(), scale)
    assert {len(given[1]) for given in forwards} == {2}


def test_where_guidance_is_an_input_a_negative_branch_changes_nothing(make_denoiser, make_conditioning, latents):
    denoiser, conditioning = make_denoiser().eval(), make_conditioning(4, 2)
    with_negative = replace(conditioning, negative=make_conditioning(1, 1, seed=9))
    for a, b in zip(
        made(denoiser, latents(2, 1), conditioning, 3.0), made(denoiser, latents(2, 1), with_negative, 3.0), strict=True
    ):
        assert torch.equal(a, b)


def test_encoders_give_both_branches(latents):
    conditioning = TinyEncoders().conditioning(["a red disc", "a ring. It moves."], torch.zeros(2, 3, 32, 32), "blue")
    plain = TinyEncoders().conditioning(["a red disc", "a ring. It moves."], torch.zeros(2, 3, 32, 32))
    assert plain.negative is None
    torch.testing.assert_close(conditioning.text, plain.text)
    assert conditioning.negative.text_mask.sum(1).tolist() == [1, 1]
    assert torch.equal(conditioning.negative.text[0], conditioning.negative.text[1])
    half = conditioning.to(dtype=torch.bfloat16)
    assert half.negative.text.dtype == torch.bfloat16


def test_a_negative_prompt_that_would_not_count_is_refused(wan, make_denoiser, tmp_path):
    def asked(denoiser, **options) -> Sampling:
        model = LoadedModel(denoiser, TinyEncoders(), 5.0, 48, 80, 24.0, tmp_path, 3, {})
        job = Job("a disc", np.zeros((48, 80, 3), np.uint8), None, 1, tmp_path / "out.mp4")
        return Denoising(**options).of(model, job, 1.0)

    assert asked(wan, negative_prompt="blurred").negative_prompt == "blurred"
    assert asked(wan).negative_prompt == ""
    with pytest.raises(UserError, match="at --guidance_scale 1 it has no effect"):
        asked(wan, negative_prompt="blurred", guidance_scale=1.0)
    with pytest.raises(UserError, match="guidance is an input of this model"):
        asked(make_denoiser(), negative_prompt="blurred")
    assert asked(wan, negative_memory=False).negative_memory is False
    with pytest.raises(UserError, match="--negative_memory: wanted a model with a memory"):
        asked(make_denoiser(), negative_memory=False)


def test_the_negative_branch_may_be_without_the_memory(make_denoiser, wan_backbone, latents, make_text):
    wan, start, given = make_denoiser(backbone=wan_backbone).eval(), latents(2, 1), make_text(1, 1)
    past = wan.begin(start, given).after(latents(2, 3, seed=3))
    noisy, sigma = latents(2, 3, seed=7), 0.6
    plain, negative = given.guided(1.0), replace(given.negative, guidance_scale=1.0)
    towards = guided_velocity(wan, past.pack(), replace(plain, negative=None))(noisy, sigma)
    away = guided_velocity(wan, replace(past, psi=None).pack(), negative)(noisy, sigma)
    scaled = guided_velocity(wan, past.pack(), given.guided(3.0), negative_memory=False)
    torch.testing.assert_close(scaled(noisy, sigma), away + 3.0 * (towards - away), atol=2e-5, rtol=0)
    with_memory = guided_velocity(wan, past.pack(), given.guided(3.0))(noisy, sigma)
    assert (with_memory - scaled(noisy, sigma)).abs().max() > 1e-5
