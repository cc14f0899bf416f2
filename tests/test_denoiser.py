from dataclasses import replace

import pytest
import torch

from mpgen.backbones.rope import rotation_grid
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser
from mpgen.memory.structures import StructureA, StructureB, StructureC
from mpgen.sections import GlobalIndex, LocalIndex


def remembered(denoiser, start, conditioning, sections, keep=0):
    history, memory = denoiser.begin(start, conditioning, keep)
    for section in sections:
        history, memory = denoiser.remember(history, memory, section)
    return history, memory


def row(conditioning: Conditioning, i: int, length: int) -> Conditioning:
    i = slice(i, i + 1)
    return Conditioning(
        conditioning.text[i, :length], conditioning.text_mask[i, :length], conditioning.pooled[i], conditioning.image[i]
    )


@pytest.mark.parametrize("structure", [StructureA(), StructureB(), StructureC()])
@pytest.mark.parametrize("frame_index", [LocalIndex(), GlobalIndex()])
def test_a_batch_at_different_sections_with_different_texts_is_two_single_runs(
    make_denoiser, small_config, make_conditioning, latents, structure, frame_index
):
    semantic = replace(small_config.semantic, structure=structure)
    denoiser = make_denoiser(semantic=semantic, frame_index=frame_index)
    conditioning = make_conditioning(5, 2)
    start, noisy, sigma = latents(2, 1), latents(2, 3, seed=7), torch.tensor([0.3, 0.9])
    sections = [latents(2, 3, seed=number) for number in range(2)]
    history, memory = remembered(denoiser, start, conditioning, sections)
    mixed = replace(history, numbers=(2, 5))  # the second video has been going on for longer
    both = denoiser(noisy, sigma, denoiser.pack(mixed, memory), conditioning, 4.0)
    for i, length in enumerate((5, 2)):
        own = row(conditioning, i, length)
        alone, psi = remembered(denoiser, start[i : i + 1], own, [section[i : i + 1] for section in sections])
        context = denoiser.pack(replace(alone, numbers=(mixed.numbers[i],)), psi)
        wanted = denoiser(noisy[i : i + 1], sigma[i : i + 1], context, own, 4.0)
        torch.testing.assert_close(both[i : i + 1], wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("structure", [StructureA(), StructureB()])
def test_memory_stands_before_the_history_where_its_window_stood(
    small_config, make_denoiser, make_conditioning, latents, structure
):
    denoiser = make_denoiser(semantic=replace(small_config.semantic, structure=structure, window_patch=(2, 2, 4)))
    conditioning = make_conditioning(5, 3)
    history, memory = remembered(denoiser, latents(2, 1), conditioning, [latents(2, 3)])
    with_memory, without = denoiser.pack(history, memory), denoiser.pack(history, None)
    tokens = denoiser.semantic_pack.as_video_tokens(memory.read(denoiser.semantic_pack))
    torch.testing.assert_close(with_memory.tokens, torch.cat([tokens, without.tokens], 1))
    torch.testing.assert_close(with_memory.rotation[:, tokens.shape[1] :], without.rotation)
    places = with_memory.rotation[:, : tokens.shape[1]]
    if structure == StructureB():  # tokens of the conditioning stand nowhere
        cos, sin = places.chunk(2, -1)
        assert bool((cos == 1).all())
        assert not sin.any()
        return
    _, rows, columns = denoiser.grid(history.start)  # patches of 2 x 2, of which a memory token covers 1 x 2
    assert places.shape[1] == 2 * rows * -(-columns // 2)
    dit, start = denoiser.config, torch.zeros(2, 1, dtype=torch.long)
    halves = rotation_grid(start, rows, torch.arange(columns) + 0.5, dit.rope_axes_dim, dit.rope_theta)[:, :, 0]
    torch.testing.assert_close(places[:, 0], halves[:, :, 0, 0])
    torch.testing.assert_close(places[:, -(-columns // 2)], halves[:, :, 1, 0])


def test_a_new_memory_speaks_the_language_of_the_history(small_config, latents):
    denoiser = Denoiser(replace(small_config, semantic=replace(small_config.semantic, window_patch=(1, 2, 2))))
    with torch.no_grad():
        denoiser.clean_x_embedder.proj.bias.normal_()
    denoiser.begin_memory()
    section = latents(2, 3)
    torch.testing.assert_close(
        denoiser.semantic_pack.memorize(section).tokens, denoiser.clean_x_embedder.embed_1x(section)
    )


def test_a_silent_memory_begins_as_empty_history_slots_whatever_it_holds(small_config, make_conditioning, latents):
    denoiser = Denoiser(replace(small_config, semantic=replace(small_config.semantic, silent=True)))
    with torch.no_grad():
        denoiser.clean_x_embedder.proj_4x.bias.normal_()
    denoiser.begin_memory()
    _, memory = remembered(denoiser, latents(1, 1), make_conditioning(4), [latents(1, 3)])
    tokens = denoiser.semantic_pack.as_video_tokens(memory.read(denoiser.semantic_pack))
    torch.testing.assert_close(tokens, denoiser.clean_x_embedder.proj_4x.bias.expand_as(tokens))


def test_history_and_memory_change_the_velocity(make_denoiser, make_conditioning, latents):
    denoiser, conditioning = make_denoiser(), make_conditioning(4)
    noisy, sigma = latents(1, 3, seed=7), torch.tensor([0.5])
    history, memory = remembered(denoiser, latents(1, 1), conditioning, [latents(1, 3)])
    other_history, other_memory = remembered(denoiser, latents(1, 1), conditioning, [latents(1, 3, seed=1)])
    before = denoiser(noisy, sigma, denoiser.pack(history, memory), conditioning)
    for context in (denoiser.pack(other_history, memory), denoiser.pack(history, other_memory)):
        assert (denoiser(noisy, sigma, context, conditioning) - before).abs().max() > 1e-6


def test_without_a_long_term_memory_there_is_none(make_denoiser, make_conditioning, latents):
    denoiser = make_denoiser(semantic=None)
    history, memory = remembered(denoiser, latents(1, 1), make_conditioning(4), [latents(1, 3)])
    assert memory is None
    assert not any(name.startswith("semantic_pack") for name in denoiser.state_dict())
    assert denoiser.pack(history, memory).tokens.shape[1] == 1 * 1 * 2 + 1 * 2 * 3 + 2 * 3 * 5


@pytest.mark.parametrize("keep", [0, 2])
def test_what_is_remembered_never_has_a_gradient(make_denoiser, make_conditioning, latents, keep):
    denoiser = make_denoiser()
    section = latents(1, 3).requires_grad_()
    history, memory = remembered(denoiser, latents(1, 1), make_conditioning(4), [section], keep)
    context = denoiser.pack(history, memory)
    context.tokens.square().mean().backward()
    assert section.grad is None
    assert not history.recent.requires_grad


def test_sizes_of_history_and_memory_stay_the_same_forever(make_denoiser, make_conditioning, latents):
    denoiser = make_denoiser()
    history, memory = remembered(denoiser, latents(1, 1), make_conditioning(4), [latents(1, 3)])
    sizes = (
        history.recent.shape,
        memory.base.tokens.shape,
        len(memory.windows),
        denoiser.pack(history, memory).tokens.shape,
    )
    for number in range(9):
        history, memory = denoiser.remember(history, memory, latents(1, 3, seed=number))
    after = (
        history.recent.shape,
        memory.base.tokens.shape,
        len(memory.windows),
        denoiser.pack(history, memory).tokens.shape,
    )
    assert after == sizes
