import pytest
import torch

from mpgen.generation.offload import stream_blocks
from mpgen.generation.rollout import Sampling, rollout
from mpgen.sampling import euler

CPU, META = torch.device("cpu"), torch.device("meta")


def blocks_of(denoiser):
    return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]


@pytest.fixture
def make_two(make_denoiser, latents, make_conditioning):
    """Two sections of a denoiser."""
    return lambda denoiser: list(
        rollout(denoiser, latents(1, 1), make_conditioning(4), 2, Sampling(euler, 2, 1.0, 4.0, 0))
    )


def test_streamed_blocks_give_the_same_numbers_and_stay_as_they_were(make_denoiser, make_two):
    plain, streamed = make_denoiser(), make_denoiser()
    stop = stream_blocks(streamed, CPU)
    wanted = make_two(plain)
    assert all(torch.equal(a, b) for a, b in zip(make_two(streamed), wanted, strict=True))
    stop()
    assert all(torch.equal(a, b) for a, b in zip(make_two(streamed), wanted, strict=True))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, streamed.state_dict()[name])


def test_only_the_running_block_is_on_the_device(make_denoiser):
    denoiser = make_denoiser()
    blocks = blocks_of(denoiser)
    stop = stream_blocks(denoiser, META)
    places = {name: p.device.type for name, p in denoiser.named_parameters()}
    of_blocks = {name for name in places if "transformer_blocks." in name}
    assert {places[name] for name in of_blocks} == {"cpu"}
    assert {places[name] for name in places.keys() - of_blocks} == {"meta"}

    there = []
    for block in blocks:
        block.register_forward_pre_hook(
            lambda module, given: there.append([all(p.is_meta for p in b.parameters()) for b in blocks])
        )
        block.forward = lambda *given: given[0]
    for block in blocks * 2:
        block(torch.zeros(1))
    assert there == [[i == j for j in range(len(blocks))] for i in range(len(blocks))] * 2
    assert all(p.device.type == "cpu" for p in blocks[0].parameters())
    stop()
    there.clear()
    blocks[0](torch.zeros(1))
    assert there == [[False] * len(blocks)]


def test_a_block_that_fails_is_there_again_for_the_next_try(make_denoiser, make_two):
    denoiser = make_denoiser()
    wanted = make_two(denoiser)
    stream_blocks(denoiser, CPU)
    block = denoiser.single_transformer_blocks[1]
    forward = block.forward

    def interrupted(*given):
        raise KeyboardInterrupt

    block.forward = interrupted
    with pytest.raises(KeyboardInterrupt):
        make_two(denoiser)
    block.forward = forward
    assert all(torch.equal(a, b) for a, b in zip(make_two(denoiser), wanted, strict=True))


@pytest.mark.gpu
def test_on_a_gpu_streaming_gives_the_same_numbers_in_less_memory(make_denoiser, latents, make_conditioning):
    device = torch.device("cuda")

    def made(denoiser):
        conditioning = make_conditioning(4).to(device)
        return list(rollout(denoiser, latents(1, 1).to(device), conditioning, 2, Sampling(euler, 2, 1.0, 4.0, 0)))

    whole, streamed = make_denoiser().to(device), make_denoiser()
    stream_blocks(streamed, device)
    for a, b in zip(made(streamed), made(whole), strict=True):
        assert torch.equal(a, b)
