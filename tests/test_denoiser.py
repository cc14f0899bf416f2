from dataclasses import replace

import pytest
import torch

from mpgen.backbones.rope import rotation_grid
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser
from mpgen.memory.structures import StructureA, StructureB, StructureC
from mpgen.sections import GlobalIndex, LocalIndex


def remembered(denoiser, start, conditioning, sections, keep=0):
    past = denoiser.begin(start, conditioning, keep)
    for section in sections:
        past = past.after(section)
    return past


def row(conditioning: Conditioning, i: int, length: int) -> Conditioning:
    i = slice(i, i + 1)
    text, text_mask = conditioning.text[i, :length], conditioning.text_mask[i, :length]
    return replace(
        conditioning, text=text, text_mask=text_mask, pooled=conditioning.pooled[i], image=conditioning.image[i]
    )


@pytest.mark.parametrize("structure", [StructureA(), StructureB(), StructureC()])
@pytest.mark.parametrize("frame_index", [LocalIndex(), GlobalIndex()])
def test_a_batch_at_different_sections_with_different_texts_is_two_single_runs(
    make_denoiser, small_config, make_conditioning, latents, structure, frame_index
):
    denoiser = make_denoiser(memory=replace(small_config.memory, structure=structure), frame_index=frame_index)
    conditioning = make_conditioning(5, 2).guided(4.0)
    start, noisy, sigma = latents(2, 1), latents(2, 3, seed=7), torch.tensor([0.3, 0.9])
    sections = [latents(2, 3, seed=number) for number in range(2)]
    past = remembered(denoiser, start, conditioning, sections)
    numbers = (2, 5)  # the second video has been going on for longer
    mixed = replace(past, history=replace(past.history, numbers=numbers))
    both = denoiser(noisy, sigma, mixed.pack(), conditioning)
    for i, length in enumerate((5, 2)):
        own = row(conditioning, i, length)
        alone = remembered(denoiser, start[i : i + 1], own, [section[i : i + 1] for section in sections])
        alone = replace(alone, history=replace(alone.history, numbers=numbers[i : i + 1]))
        wanted = denoiser(noisy[i : i + 1], sigma[i : i + 1], alone.pack(), own)
        torch.testing.assert_close(both[i : i + 1], wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("structure", [StructureA(), StructureB()])
def test_memory_stands_before_the_history_where_its_window_stood(
    small_config, make_denoiser, make_conditioning, latents, structure
):
    denoiser = make_denoiser(memory=replace(small_config.memory, structure=structure, window_patch=(2, 2, 4)))
    conditioning = make_conditioning(5, 3)
    past = remembered(denoiser, latents(2, 1), conditioning, [latents(2, 3)])
    with_memory, without = past.pack(), replace(past, psi=None).pack()
    tokens = past.psi.tokens().tokens
    torch.testing.assert_close(with_memory.tokens, torch.cat([tokens, without.tokens], 1))
    torch.testing.assert_close(with_memory.rotation[:, tokens.shape[1] :], without.rotation)
    rotation = with_memory.rotation[:, : tokens.shape[1]]
    if structure == StructureB():  # tokens of the conditioning stand nowhere
        cos, sin = rotation.chunk(2, -1)
        assert bool((cos == 1).all())
        assert not sin.any()
        return
    _, rows, columns = denoiser.backbone.grid(
        past.history.start
    )  # patches of 2 x 2, of which a memory token covers 1 x 2
    assert rotation.shape[1] == 2 * rows * -(-columns // 2)
    sizes, start = denoiser.backbone.config, torch.zeros(2, 1, dtype=torch.long)
    halves = rotation_grid(start, rows, torch.arange(columns) + 0.5, sizes.rope_axes, sizes.theta)[:, :, 0]
    torch.testing.assert_close(rotation[:, 0], halves[:, :, 0, 0])
    torch.testing.assert_close(rotation[:, -(-columns // 2)], halves[:, :, 1, 0])


def test_a_new_memory_speaks_the_language_of_the_history(small_config, latents):
    denoiser = Denoiser(replace(small_config, memory=replace(small_config.memory, window_patch=(1, 2, 2))))
    with torch.no_grad():
        denoiser.backbone.history_kernel(1).bias.normal_()
    denoiser.memory.initialise_from(denoiser.backbone)
    section = latents(2, 3)
    torch.testing.assert_close(denoiser.memory.memorize(section).tokens, denoiser.backbone.embed_history(section, 1))


def test_a_silent_memory_begins_as_empty_history_slots_whatever_it_holds(small_config, make_conditioning, latents):
    denoiser = Denoiser(replace(small_config, memory=replace(small_config.memory, silent=True)))
    with torch.no_grad():
        denoiser.backbone.history_kernel(4).bias.normal_()
    denoiser.memory.initialise_from(denoiser.backbone)
    past = remembered(denoiser, latents(1, 1), make_conditioning(4), [latents(1, 3)])
    tokens = past.psi.tokens().tokens
    torch.testing.assert_close(tokens, denoiser.backbone.history_kernel(4).bias.expand_as(tokens))


def test_history_and_memory_change_the_velocity(make_denoiser, make_conditioning, latents):
    denoiser, conditioning = make_denoiser(), make_conditioning(4)
    noisy, sigma = latents(1, 3, seed=7), torch.tensor([0.5])
    past = remembered(denoiser, latents(1, 1), conditioning, [latents(1, 3)])
    other = remembered(denoiser, latents(1, 1), conditioning, [latents(1, 3, seed=1)])
    before = denoiser(noisy, sigma, past.pack(), conditioning)
    for changed in (replace(past, history=other.history), replace(past, psi=other.psi)):
        assert (denoiser(noisy, sigma, changed.pack(), conditioning) - before).abs().max() > 1e-6


def test_without_a_long_term_memory_there_is_none(make_denoiser, make_conditioning, latents):
    denoiser = make_denoiser(memory=None)
    past = remembered(denoiser, latents(1, 1), make_conditioning(4), [latents(1, 3)])
    assert past.psi is None
    assert denoiser.memory is None
    assert not any(name.startswith("memory") for name in denoiser.state_dict())
    assert past.pack().tokens.shape[1] == 1 * 1 * 2 + 1 * 2 * 3 + 2 * 3 * 5


@pytest.mark.parametrize("keep", [0, 2])
def test_what_is_remembered_never_has_a_gradient(make_denoiser, make_conditioning, latents, keep):
    denoiser = make_denoiser()
    section = latents(1, 3).requires_grad_()
    past = remembered(denoiser, latents(1, 1), make_conditioning(4), [section], keep)
    past.pack().tokens.square().mean().backward()
    assert section.grad is None
    assert not past.history.recent.requires_grad


def test_sizes_of_history_and_memory_stay_the_same_forever(make_denoiser, make_conditioning, latents):
    def sizes(past):
        return past.history.recent.shape, past.psi.base.tokens.shape, len(past.psi.sections), past.pack().tokens.shape

    past = remembered(make_denoiser(), latents(1, 1), make_conditioning(4), [latents(1, 3)])
    early = sizes(past)
    for number in range(9):
        past = past.after(latents(1, 3, seed=number))
    assert sizes(past) == early
