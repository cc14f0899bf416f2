"""Controls of a claim about memory: what psi is made of in place of the video's own windows."""

from dataclasses import replace

import pytest
import torch

from mpgen.errors import UserError
from mpgen.generation.rollout import Sampling, rollout
from mpgen.memory.controls import CONTROLS, OtherVideo
from mpgen.sampling import euler


@pytest.fixture
def denoiser(make_denoiser):
    return make_denoiser()


@pytest.fixture
def begin(denoiser, make_conditioning, latents):
    """The past of a video that begins with this seed."""
    return lambda seed=0: denoiser.begin(latents(1, 1, seed=seed), make_conditioning(4, seed=seed))


@pytest.fixture
def sections(latents):
    return lambda seed: tuple(latents(1, 3, seed=seed + number) for number in range(3))


@pytest.fixture
def other(begin, make_conditioning, latents, sections):
    return OtherVideo(make_conditioning(4, seed=7), latents(1, 1, seed=7), sections(70))


def after(past, sections):
    for section in sections:
        past = past.after(section)
    return past


def tokens(past):
    return past.psi.tokens().tokens


@pytest.mark.parametrize("seen", [0, 2])
def test_psi_of_another_video_is_that_videos_and_not_ones_own(begin, sections, other, seen):
    own = [after(begin(seed).controlled("other_video", other), sections(seed * 10)[:seen]) for seed in (1, 2)]
    torch.testing.assert_close(tokens(own[0]), tokens(own[1]))
    torch.testing.assert_close(tokens(own[0]), tokens(after(begin(7), other.sections[:seen])))
    assert not torch.equal(own[0].history.recent, own[1].history.recent)  # the short-term context is one's own


def test_a_frozen_psi_is_that_of_the_first_window(begin, sections):
    frozen = after(begin().controlled("frozen"), sections(1))
    torch.testing.assert_close(tokens(frozen), tokens(after(begin(), sections(1)[:1])))


def test_a_shuffled_psi_has_all_windows_in_another_order(begin, sections):
    first, second, third = sections(1)
    shuffled = tokens(after(begin().controlled("shuffled"), (first, second, third)))
    assert not torch.allclose(shuffled, tokens(after(begin(), (first, second, third))))
    orders = [(first, third, second), (second, first, third), (second, third, first), (third, first, second),
              (third, second, first)]  # fmt: skip
    assert sum(torch.allclose(shuffled, tokens(after(begin(), order))) for order in orders) == 1


def test_without_psi_the_context_is_framepacks_alone(begin, sections):
    without, whole = (after(past, sections(1)).pack() for past in (begin().controlled("removed"), begin()))
    assert without.memory_tokens == 0
    torch.testing.assert_close(without.tokens, whole.tokens[:, whole.memory_tokens :])


@pytest.mark.parametrize("control", CONTROLS)
def test_a_new_prompt_and_a_start_image_that_comes_late_keep_the_control(begin, sections, other, control, latents):
    controlled, conditioning = begin().controlled(control, other), begin(3).psi.conditioning
    anew = after(controlled, sections(1)).reconditioned(conditioning, sections(1))
    wanted = after(replace(begin(), psi=begin().psi.anew(conditioning)).controlled(control, other), sections(1))
    assert (anew.psi is None) == (wanted.psi is None) == (control == "removed")
    if anew.psi is not None:
        torch.testing.assert_close(tokens(anew), tokens(wanted))


@pytest.mark.parametrize("control", CONTROLS)
def test_generation_under_a_control_differs_once_it_matters(denoiser, make_conditioning, latents, other, control):
    def make(control, known):
        sampling = Sampling(euler, 1, 1.0, 1.0, 0, memory_control=control)
        start, conditioning = latents(1, 1), make_conditioning(4)
        return next(rollout(denoiser, start, conditioning, 1, sampling, known, other=other))

    known = [latents(1, 3, seed=30 + number) for number in range(3)]
    assert not torch.allclose(make(control, known), make("own", known))
    same_yet = control in ("frozen", "shuffled")  # one window is the first, and has one order
    assert torch.equal(make(control, known[:1]), make("own", known[:1])) == same_yet


def test_what_is_missing_is_said(begin, make_denoiser, make_conditioning, latents):
    with pytest.raises(UserError, match="memory control other_video: wanted another video"):
        begin().controlled("other_video")
    with pytest.raises(UserError, match="memory control frozn: did you mean 'frozen'"):
        begin().controlled("frozn")
    without = make_denoiser(memory=None).begin(latents(1, 1), make_conditioning(4))
    with pytest.raises(UserError, match="wanted a model with a long-term memory"):
        without.controlled("removed")
