"""Laws of what is known of a video so far: history and memory as one value."""

from dataclasses import replace

import pytest
import torch

from mpgen.memory.base import Psi
from mpgen.memory.framepack import pack_history
from mpgen.schedule import Staircase
from mpgen.sections import Forward


@pytest.fixture
def begun(make_denoiser, make_conditioning, latents):
    """Pasts of two videos after so many sections."""

    def make(num_sections: int = 0, keep: int = 0, conditioning=None, **fields):
        conditioning = make_conditioning(4, 2) if conditioning is None else conditioning
        past = make_denoiser(**fields).begin(latents(2, 1), conditioning, keep)
        for number in range(num_sections):
            past = past.after(latents(2, 3, seed=1 + number))
        return past

    return make


def assert_same_context(one, other):
    torch.testing.assert_close(one.tokens, other.tokens)
    torch.testing.assert_close(one.rotation, other.rotation)
    assert torch.equal(one.mask, other.mask)
    assert torch.equal(one.section_indices, other.section_indices)


@pytest.mark.parametrize("keep", [0, 2])
def test_after_a_section_both_history_and_memory_have_it(begun, latents, keep):
    past, section = begun(1, keep), latents(2, 3, seed=9)
    after = past.after(section)
    wanted = past.history.append(section)
    assert torch.equal(after.history.recent, wanted.recent)
    assert after.history.numbers == wanted.numbers == (2, 2)
    torch.testing.assert_close(after.psi.read().tokens, past.psi.after(section).read().tokens)
    assert past.history.numbers == (1, 1)  # a past is a value: the one before is still what it was


def test_no_gradient_flows_into_a_section(begun, latents):
    section = latents(2, 3).requires_grad_()
    begun(keep=2).after(section).pack().tokens.square().mean().backward()
    assert section.grad is None


def test_the_context_is_the_memory_then_the_history(begun):
    past = begun(2)
    memory, history = past.psi.tokens(), pack_history(past.backbone, past.history, past.frame_index)
    wanted = replace(
        history,
        tokens=torch.cat([memory.tokens, history.tokens], 1),
        rotation=torch.cat([memory.rotation, history.rotation], 1),
        mask=torch.cat([memory.mask, history.mask], 1),
    )
    assert memory.tokens.shape[1] > 0
    assert_same_context(past.pack(), wanted)
    assert_same_context(replace(past, psi=None).pack(), history)


def test_without_a_memory_the_context_is_the_history(begun):
    past = begun(2, memory=None)
    assert past.psi is None
    assert_same_context(past.pack(), pack_history(past.backbone, past.history, past.frame_index))


def test_sections_side_by_side_have_their_own_indices_and_a_causal_order_of_tokens(begun):
    layout = Forward(3, 0, 0, 3)
    assert begun(1, layout=layout).pack().blocks is None  # one section after another: all attend to all
    context = begun(1, layout=layout, schedule=Staircase(3)).pack(2)
    before, tokens_a_section = context.tokens.shape[1], 3 * 3 * 5
    wanted = [0] * before + [1] * tokens_a_section + [2] * tokens_a_section
    assert context.blocks.tolist() == wanted
    assert context.sigma == 0.0
    first = int(context.section_indices[0, 0])
    assert context.section_indices.tolist() == 2 * [list(range(first, first + 6))]


def test_from_memory_alone_the_history_of_those_videos_is_empty_and_all_else_stays(begun, latents):
    past = begun(2)
    alone = past.from_memory_alone(torch.tensor([True, False]))
    assert not alone.history.recent[0].any()
    assert torch.equal(alone.history.recent[1], past.history.recent[1])
    assert torch.equal(alone.history.start, past.history.start)
    assert alone.history.numbers == past.history.numbers
    assert alone.psi is past.psi
    assert torch.equal(past.from_memory_alone(torch.tensor([False, False])).pack().tokens, past.pack().tokens)


def test_from_memory_alone_the_context_no_longer_depends_on_the_latest_sections_but_through_the_memory(begun, latents):
    def pack(section):
        past = begun(1).after(section)
        num_memory = past.psi.tokens().tokens.shape[1]
        tokens = past.from_memory_alone(torch.tensor([True, True])).pack().tokens
        return tokens[:, :num_memory], tokens[:, num_memory:]

    (memory, history), (other_memory, other_history) = pack(latents(2, 3, seed=8)), pack(latents(2, 3, seed=9))
    assert torch.equal(history, other_history)
    assert not torch.allclose(memory, other_memory)


@pytest.mark.parametrize("keep", [0, 2])
def test_reconditioned_is_a_memory_that_had_the_new_conditioning_from_the_start(
    begun, make_conditioning, latents, keep
):
    other = make_conditioning(4, 2, seed=5)
    sections = [latents(2, 3, seed=1 + number) for number in range(3)]
    past = begun(3, keep)
    changed, wanted = past.reconditioned(other, sections), begun(3, keep, conditioning=other)
    assert_same_context(changed.pack(), wanted.pack())
    assert not torch.equal(changed.pack().tokens, past.pack().tokens)
    again, wanted = (known.after(latents(2, 3, seed=9)) for known in (changed, wanted))
    assert_same_context(again.pack(), wanted.pack())


def test_reconditioned_without_a_memory_is_the_same(begun, make_conditioning):
    past = begun(1, memory=None)
    assert past.reconditioned(make_conditioning(4, 2, seed=5), []) is past


def test_a_new_past_knows_the_start_image_and_no_section(begun, make_denoiser, make_conditioning, latents):
    past = begun()
    assert past.history.numbers == (0, 0)
    assert torch.equal(past.history.recent[:, :, -1:], latents(2, 1))
    assert not past.history.recent[:, :, :-1].any()
    wanted = Psi.begin(make_denoiser().memory, make_conditioning(4, 2), latents(2, 1), 0)
    torch.testing.assert_close(past.psi.read().tokens, wanted.read().tokens)
