import pytest
import torch
from compiled import CONDITION, HEADS, VIDEO, WIDTH, compare, learn, run
from processes import start

from mpgen.backbones import recompute as recompute_file
from mpgen.backbones.hunyuan.blocks import DoubleStreamBlock, SingleStreamBlock
from mpgen.backbones.recompute import RECOMPUTE
from mpgen.training.footprint import LiveMemory


@pytest.fixture
def streams():
    generator = torch.Generator().manual_seed(0)
    video, condition = (torch.randn(2, n, WIDTH, generator=generator).requires_grad_() for n in (VIDEO, CONDITION))
    return video, condition, torch.randn(2, WIDTH, generator=generator)


def stack(perturb, doubles: int, singles: int) -> torch.nn.ModuleList:
    torch.manual_seed(1)
    blocks = [DoubleStreamBlock(WIDTH, HEADS, 4.0) for _ in range(doubles)]
    return perturb(torch.nn.ModuleList(blocks + [SingleStreamBlock(WIDTH, HEADS, 4.0) for _ in range(singles)]))


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
def test_compiled_blocks_keep_their_names_and_give_the_same_gradients(tmp_path):
    environment = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "made")}
    started = start(compare, said=tmp_path / "compared", environment=environment)
    assert started.wait(900) == 0, started.err
    assert started.out.split() == ["equal", *RECOMPUTE]
