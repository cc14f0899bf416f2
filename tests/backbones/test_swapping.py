"""Block swapping: the same numbers, and at most two blocks' weights on the device."""

from dataclasses import replace

import pytest
import torch

from mpgen.backbones.eight_bit import store_blocks
from mpgen.backbones.lora import ADAPTER, LoraConfig
from mpgen.backbones.recompute import RECOMPUTE
from mpgen.backbones.swapping import AT_ONCE, Window, frozen_matrices, swap_blocks, swapped
from mpgen.errors import UserError
from mpgen.training.footprint import LiveMemory

BLOCKS = 8


@pytest.fixture(params=["hunyuan", "wan"])
def make(request, small_config, make_denoiser, wan_backbone):
    """Denoisers of eight blocks whose adapters train; wide, so that weights are most of what is alive."""
    deep = {"hunyuan": small_config.backbone.with_depths((4, 4)), "wan": wan_backbone.with_depths((BLOCKS,))}
    backbone = replace(deep[request.param], num_attention_heads=8)

    def made():
        denoiser = make_denoiser(backbone=backbone, memory=None, lora=LoraConfig(rank=2))
        for name, parameter in denoiser.named_parameters():
            parameter.requires_grad_(ADAPTER in name)
        for block in denoiser.backbone.blocks:
            block.run = RECOMPUTE["full"]
        return denoiser

    return made


@pytest.fixture
def velocity(latents, make_conditioning):
    def predict(denoiser):
        conditioning = make_conditioning(3)
        context = denoiser.begin(latents(1, 1, rows=4, columns=4), conditioning).pack()
        noisy = latents(1, 3, seed=1, rows=4, columns=4)
        return denoiser(noisy, torch.tensor([0.6]), context, conditioning.guided(2.0))

    return predict


@pytest.mark.parametrize(("count", "eight_bit"), [(BLOCKS, True), (3, False)])
def test_gradients_of_adapters_are_the_same_bit_for_bit(make, velocity, count, eight_bit):
    plain, away = make(), make()
    for denoiser in (plain, away):
        if eight_bit:
            store_blocks(denoiser.backbone, "int8")
    swap_blocks(away.backbone, count)
    assert list(away.state_dict()) == list(plain.state_dict())
    for _ in range(2):  # the second step begins with what the first one left
        found = []
        for denoiser in (plain, away):
            denoiser.zero_grad()
            with torch.no_grad():
                found.append({"velocity": velocity(denoiser)})
            velocity(denoiser).square().mean().backward()
            found[-1] |= {name: p.grad for name, p in denoiser.named_parameters() if p.grad is not None}
        assert len(found[0]) > 2 * BLOCKS
        assert found[0].keys() == found[1].keys()
        assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_at_most_two_blocks_are_on_the_device(make, velocity):
    denoiser, peaks = make(), []
    sizes = [sum(p.nbytes for p in frozen_matrices(block).values()) for block in denoiser.backbone.blocks]
    for swaps in (False, True):
        if swaps:
            swap_blocks(denoiser.backbone, BLOCKS)
        velocity(denoiser).square().mean().backward()
        denoiser.zero_grad(set_to_none=False)  # so that gradients are not among what is new
        with LiveMemory() as memory:
            velocity(denoiser).square().mean().backward()
        peaks.append(memory.peak)
    assert max(sizes) < peaks[1] - peaks[0] <= AT_ONCE * max(sizes) < 0.4 * sum(sizes)


def test_blocks_move_on_and_the_next_one_is_on_its_way():
    window, cpu = Window([{"weight": torch.full((2, 3), float(n))} for n in range(4)]), torch.device("cpu")
    seen = []
    for number, direction in [(0, 1), (1, 1), (2, 1), (3, 1), (3, -1), (2, -1), (0, 1), (1, 1)]:
        taken = window.take(number, direction, cpu)["weight"]
        assert (taken == number).all()
        assert taken.data_ptr() != window.waiting[number]["weight"].data_ptr()
        seen.append(sorted(window.here))
    assert seen == [[0, 1], [1, 2], [2, 3], [3], [2, 3], [1, 2], [0, 1], [1, 2]]


def test_what_waits_is_not_moved_with_the_rest(make):
    denoiser = make()
    swap_blocks(denoiser.backbone, 3)
    denoiser.to("meta")
    chosen = swapped(denoiser.backbone.blocks, 3)
    assert [list(denoiser.backbone.blocks).index(block) for block in chosen] == [2, 5, 7]
    waiting = {p for block in chosen for p in frozen_matrices(block).values()}
    assert len(waiting) > 3 * 4
    assert {p for p in denoiser.parameters() if not p.is_meta} == waiting


def test_what_cannot_be_swapped_is_said(make):
    denoiser = make()
    with pytest.raises(UserError, match=f"swap_blocks 9: wanted 0 to {BLOCKS}"):
        swap_blocks(denoiser.backbone, BLOCKS + 1)
    denoiser.requires_grad_(True)
    with pytest.raises(UserError, match="is for weights that do not train"):
        swap_blocks(denoiser.backbone, 1)
