"""Products by oneDNN are torch's, and only inference in float32 on a CPU gets them."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from mpgen.evaluation.vbench.precision import prepared
from mpgen.products import Linear, all_pairs, linear, with_fast_products


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_product_is_torchs():
    rows, weight, bias = normal(2, 5, 7), normal(3, 7, seed=1), normal(3, seed=2)
    for given in (rows, rows[:, ::2], rows[0], rows.transpose(0, 1)):
        torch.testing.assert_close(linear(given, weight, bias), F.linear(given, weight, bias))
    torch.testing.assert_close(linear(rows, weight[1:]), F.linear(rows, weight[1:]))
    torch.testing.assert_close(linear(rows.double(), weight.double()), F.linear(rows.double(), weight.double()))


def test_all_pairs_of_one_and_of_several():
    for batch in (1, 3):
        rows, others = normal(batch, 4, 7), normal(batch, 5, 7, seed=1)
        torch.testing.assert_close(all_pairs(rows, others), torch.einsum("bnd,bmd->bnm", rows, others))


def test_a_network_keeps_its_names_its_numbers_and_can_be_copied():
    network = nn.Sequential(nn.Linear(7, 5), nn.GELU(), nn.Sequential(nn.Linear(5, 3, bias=False)))
    rows = normal(2, 7)
    wanted, names = network(rows), list(network.state_dict())
    fast = prepared(network, "fp32")
    assert isinstance(fast[0], Linear)
    assert list(fast.state_dict()) == names
    for one in (fast, copy.deepcopy(fast)):
        torch.testing.assert_close(one(rows), wanted)
    torch.testing.assert_close(fast.double()(rows.double()).float(), wanted)


def test_in_bf16_torchs_own_products_are_taken():
    network = prepared(nn.Sequential(nn.Linear(7, 5)), "bf16")
    assert type(network[0]) is nn.Linear
    with torch.autocast("cpu", torch.bfloat16):
        assert with_fast_products(nn.Sequential(nn.Linear(7, 5)))(normal(2, 7)).dtype == torch.bfloat16
