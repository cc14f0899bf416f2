import torch

from mpgen.memory.structures import ConditioningAnchor, StructureA, StructureB, StructureC, ZeroAnchor
from mpgen.tensors import MaskedTokens

WINDOW = MaskedTokens(torch.full((2, 3, 5), 1.0), torch.ones(2, 3, dtype=torch.bool))
MEMORY = MaskedTokens(torch.full((2, 4, 5), 2.0), torch.tensor([[True, True, True, True], [True, True, False, False]]))


def test_in_a_the_window_asks_the_memory_and_in_b_and_c_the_memory_asks_the_window():
    assert StructureA().roles(WINDOW, MEMORY) == (WINDOW, MEMORY)
    assert StructureB().roles(WINDOW, MEMORY) == (MEMORY, WINDOW)
    assert StructureC().roles(WINDOW, MEMORY) == (MEMORY, WINDOW)


def test_a_and_b_begin_from_the_anchor_and_c_from_the_anchor_and_the_first_window():
    assert StructureA().seed(MEMORY, WINDOW) is MEMORY
    assert StructureB().seed(MEMORY, WINDOW) is MEMORY
    both = StructureC().seed(MEMORY, WINDOW)
    assert both.tokens[:, :, 0].tolist() == [[2.0] * 4 + [1.0] * 3] * 2
    assert both.mask.tolist() == [[True] * 7, [True, True, False, False, True, True, True]]


def test_the_zero_anchor_has_the_shape_and_the_mask_of_the_conditioning():
    zero = ZeroAnchor()(MEMORY)
    assert not zero.tokens.any()
    assert zero.tokens.shape == MEMORY.tokens.shape
    assert torch.equal(zero.mask, MEMORY.mask)
    assert ConditioningAnchor()(MEMORY) is MEMORY
