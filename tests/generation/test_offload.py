import pytest
import torch
from diffusers.hooks import group_offloading

from mpgen.generation.offload import offload_blocks
from mpgen.generation.rollout import Sampling, rollout
from mpgen.sampling import euler

CPU = torch.device("cpu")


@pytest.fixture
def make_two(make_denoiser, latents, make_conditioning):
    """Two sections of a denoiser."""
    return lambda denoiser: list(
        rollout(denoiser, latents(1, 1), make_conditioning(4), 2, Sampling(euler, 2, 1.0, 4.0, 0))
    )


def test_offloaded_blocks_give_the_same_numbers_under_the_same_names(make_denoiser, make_two):
    plain, offloaded = make_denoiser(), make_denoiser()
    offload_blocks(offloaded, CPU)
    assert all(torch.equal(a, b) for a, b in zip(make_two(offloaded), make_two(plain), strict=True))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, offloaded.state_dict()[name])


def test_every_block_comes_and_goes_once_a_forward_in_the_order_they_run(make_denoiser, make_two, monkeypatch):
    denoiser, moves = make_denoiser(), []
    offload_blocks(denoiser, CPU)
    names = {id(block): number for number, block in enumerate(denoiser.backbone.blocks)}
    for move in ("onload_", "offload_"):
        original = getattr(group_offloading.ModuleGroup, move)

        def watched(group, move=move, original=original):
            moves.extend((move, names[id(module)]) for module in group.modules)
            return original(group)

        monkeypatch.setattr(group_offloading.ModuleGroup, move, watched)
    make_two(denoiser)
    one_forward = [(move, number) for number in range(len(names)) for move in ("onload_", "offload_")]
    assert moves == one_forward * 4  # two sections of two steps


def test_a_block_that_fails_is_there_again_for_the_next_try(make_denoiser, make_two):
    plain, denoiser = make_denoiser(), make_denoiser()
    offload_blocks(denoiser, CPU)
    block = denoiser.backbone.blocks[1]
    compute = block.compute

    def interrupted(*given):
        raise KeyboardInterrupt

    block.compute = interrupted
    with pytest.raises(KeyboardInterrupt):
        make_two(denoiser)
    block.compute = compute
    assert all(torch.equal(a, b) for a, b in zip(make_two(denoiser), make_two(plain), strict=True))


@pytest.mark.gpu
def test_on_a_gpu_offloading_gives_the_same_numbers_in_less_memory(make_denoiser, latents, make_conditioning):
    device = torch.device("cuda")

    def made(denoiser):
        conditioning = make_conditioning(4).to(device)
        return list(rollout(denoiser, latents(1, 1).to(device), conditioning, 2, Sampling(euler, 2, 1.0, 4.0, 0)))

    whole, offloaded = make_denoiser().to(device), make_denoiser()
    offload_blocks(offloaded, device)
    for a, b in zip(made(offloaded), made(whole), strict=True):
        assert torch.equal(a, b)
    for block in offloaded.backbone.blocks:
        assert {p.device.type for p in block.parameters()} == {"cpu"}
