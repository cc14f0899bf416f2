import torch
from torch._subclasses import FakeTensorMode

from mpgen.training.footprint import AssumedValues, LiveMemory


def test_what_operations_make_is_counted_until_it_is_let_go():
    given = torch.ones(10, 3)
    with LiveMemory() as memory:
        double = given * 2
        assert memory.now == double.nbytes == 120
        view, same = double[2:], double.add_(1)
        assert memory.now == 120
        half = double.bfloat16()
        assert memory.now == 120 + 60
        del double, view, same
        assert memory.now == 60
        del half
    assert (memory.now, memory.peak) == (0, 180)


def test_views_of_what_was_there_before_are_not_counted():
    given = torch.ones(10, 3)
    with LiveMemory() as memory:
        kept = [given.t(), given[1:], given.view(-1), given.detach()]
    assert (len(kept), memory.peak) == (4, 0)


def test_what_only_the_graph_holds_is_counted():
    layer = torch.nn.Linear(3, 5)
    with LiveMemory() as memory:
        loss = layer(torch.ones(7, 3)).exp().square().mean()
        assert memory.now >= 4 * (7 * 3 + 7 * 5)  # the input, and the exponentials for both functions after them
        loss.backward()
        del loss
        assert memory.now == sum(p.grad.nbytes for p in layer.parameters())


def test_the_peak_can_initialise_adapter():
    with LiveMemory() as memory:
        kept = torch.ones(5)
        del_soon = torch.ones(100)
        del del_soon
        memory.restart()
        assert memory.peak == kept.nbytes


def test_tensors_without_data_are_counted_like_others():
    def compute() -> torch.Tensor:
        return torch.zeros(11, 3, requires_grad=True).exp().sum()

    peaks = []
    with LiveMemory() as memory:
        compute()
    peaks.append(memory.peak)
    with FakeTensorMode(), LiveMemory() as memory:
        compute()
    assert [memory.peak] == peaks


def test_masks_without_data_count_as_full():
    with FakeTensorMode(), AssumedValues(9):
        mask = torch.zeros(2, 9, dtype=torch.bool)
        assert bool(mask.all())
        assert int(mask.sum(1).max()) == 9
