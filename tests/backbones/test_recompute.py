import pytest
import torch

from mpgen.backbones import recompute as recompute_file
from mpgen.backbones.hunyuan.blocks import DoubleStreamBlock, SingleStreamBlock
from mpgen.backbones.recompute import RECOMPUTE
from mpgen.backbones.rope import no_rotation
from mpgen.training.footprint import LiveMemory

WIDTH, HEADS, VIDEO, CONDITION = 32, 2, 45, 7


@pytest.fixture
def streams():
    generator = torch.Generator().manual_seed(0)
    video, condition = (torch.randn(2, n, WIDTH, generator=generator).requires_grad_() for n in (VIDEO, CONDITION))
    return video, condition, torch.randn(2, WIDTH, generator=generator)


def stack(perturb, doubles: int, singles: int) -> torch.nn.ModuleList:
    torch.manual_seed(1)
    blocks = [DoubleStreamBlock(WIDTH, HEADS, 4.0) for _ in range(doubles)]
    return perturb(torch.nn.ModuleList(blocks + [SingleStreamBlock(WIDTH, HEADS, 4.0) for _ in range(singles)]))


def run(blocks, video, condition, conditioning) -> torch.Tensor:
    rotation = no_rotation(2, VIDEO + CONDITION, WIDTH // HEADS, video.device)
    both = None
    for block in blocks:
        if isinstance(block, DoubleStreamBlock):
            inputs = (video, condition, conditioning[:, None], conditioning, rotation[:, :VIDEO], None)
            video, condition = block(*inputs)
        else:
            both = torch.cat([video, condition], 1) if both is None else both
            both = block(both, conditioning[:, None], rotation, None)
    return both


def learn(blocks, streams) -> dict[str, torch.Tensor]:
    run(blocks, *streams).square().mean().backward()
    found = {name: parameter.grad.clone() for name, parameter in blocks.named_parameters()}
    blocks.zero_grad()
    return found


@pytest.mark.parametrize("choice", ["selective", "full"])
def test_what_is_computed_again_gives_the_same_gradients_bit_for_bit(perturb, streams, choice):
    blocks = stack(perturb, 2, 2)
    names = list(blocks.state_dict())
    kept = learn(blocks, streams)
    for block in blocks:
        block.run = RECOMPUTE[choice]
    again = learn(blocks, streams)
    assert kept.keys() == again.keys()
    assert all(torch.equal(gradient, again[name]) for name, gradient in kept.items())
    assert list(blocks.state_dict()) == names


def test_at_24_blocks_recomputing_leaves_at_most_two_fifths_of_the_peak(perturb, streams):
    peaks = {}
    blocks = stack(perturb, 8, 16)
    run(blocks, *streams).square().mean().backward()
    blocks.zero_grad(set_to_none=False)  # so that gradients are there in every case, and not among what is new
    for choice, kept in RECOMPUTE.items():
        for block in blocks:
            block.run = kept
        with LiveMemory() as memory:
            run(blocks, *streams).square().mean().backward()
        peaks[choice] = memory.peak
    assert peaks["full"] < peaks["selective"] < peaks["none"]
    assert peaks["full"] <= 0.4 * peaks["none"]
    assert peaks["selective"] <= 0.4 * peaks["none"]


@pytest.mark.parametrize("choice", ["selective", "full"])
def test_without_a_graph_nothing_is_prepared_for_recomputing(perturb, streams, choice, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("checkpointed without a graph")

    monkeypatch.setattr(recompute_file, "checkpoint", refuse)
    (block,) = stack(perturb, 0, 1)
    block.run = RECOMPUTE[choice]
    with torch.no_grad():
        run([block], *streams)
    with pytest.raises(AssertionError, match="without a graph"):
        run([block], *streams)


def test_selective_recomputing_runs_attention_once_and_full_twice(perturb, streams):
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen += func is attention
            return func(*args, **(kwargs or {}))

    counts = {}
    blocks = stack(perturb, 1, 1)
    for choice, kept in RECOMPUTE.items():
        for block in blocks:
            block.run = kept
        with Count() as count:
            run(blocks, *streams).square().mean().backward()
        counts[choice] = count.seen
    assert counts == {"none": 2, "selective": 2, "full": 4}


@pytest.mark.slow
@pytest.mark.parametrize("choice", list(RECOMPUTE))
def test_compiled_blocks_keep_their_names_and_give_the_same_gradients(perturb, streams, choice):
    blocks = stack(perturb, 1, 1)
    names, plain = list(blocks.state_dict()), learn(blocks, streams)
    for block in blocks:
        block.run = RECOMPUTE[choice]
        block.compile()
    compiled = learn(blocks, streams)
    assert list(blocks.state_dict()) == names
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient, atol=1e-5, rtol=1e-4)
