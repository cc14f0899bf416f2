"""Weights of the blocks in 8 bits: what they are, what they weigh, and that everything else is as before."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mpgen.backbones.eight_bit import EightBitLinear, count_bytes, store_blocks
from mpgen.backbones.lora import LoraConfig, adapted_layers
from mpgen.errors import UserError

KINDS = ("int8", "float8")


@pytest.fixture
def layer():
    """Channels of very different sizes, one of them zero."""
    made = nn.Linear(24, 10)
    with torch.no_grad():
        made.weight.copy_(torch.randn(10, 24, generator=torch.Generator().manual_seed(0)))
        made.weight.mul_(10.0 ** torch.arange(-5, 5)[:, None])
        made.weight[3] = 0
    return made.requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_each_weight_is_rounded_by_the_size_of_its_own_channel(layer, kind):
    stored = EightBitLinear(layer, kind)
    largest = layer.weight.abs().amax(1, keepdim=True)
    error = (stored.values - layer.weight).abs()
    # half a step of 254 of them; or half of the last of 3 binary places, and as much for what is nearly zero
    bound = 0.51 / 127 * largest if kind == "int8" else layer.weight.abs() / 16 + largest / 448 / 256
    assert (error <= bound + 1e-12).all()
    assert not stored.values[3].any()
    assert stored.weight.dtype == torch.uint8
    assert stored.to(torch.bfloat16).weight.dtype == torch.uint8
    torch.testing.assert_close(stored.values, EightBitLinear(layer, kind).values)  # scales are numbers of bf16


@pytest.mark.parametrize("kind", KINDS)
def test_products_and_gradients_are_those_of_the_rounded_weight(layer, kind):
    stored = EightBitLinear(layer, kind)
    exact = nn.Linear(24, 10)
    exact.weight.data, exact.bias.data = stored.values, layer.bias.data
    rows = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1))
    mine, its = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    got, wanted = stored(mine), exact(its)
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-5)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    (got * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(mine.grad, its.grad, atol=1e-2, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert stored(rows).dtype == torch.bfloat16


@pytest.fixture(params=["hunyuan", "wan"])
def make(request, make_denoiser, wan_backbone):
    """Both backbones, wide enough that scales and biases weigh little."""

    def of_both(**fields: object):
        fields |= {} if request.param == "hunyuan" else {"backbone": replace(wan_backbone, ffn_dim=256)}
        return make_denoiser(memory=None, **fields).requires_grad_(False)

    return of_both


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_weigh_half_of_bf16_and_the_names_stay(make, kind):
    whole, stored = make().bfloat16(), make().bfloat16()
    store_blocks(stored.backbone, kind)
    linear = [module for block in stored.backbone.blocks for module in block.modules() if type(module) is nn.Linear]
    assert not linear
    assert stored.state_dict().keys() == whole.state_dict().keys()
    for a, b in zip(stored.backbone.blocks, whole.backbone.blocks, strict=True):
        matrices = sum(p.numel() for p in b.parameters() if p.ndim == 2)
        rows = sum(len(p) for p in b.parameters() if p.ndim == 2)
        assert count_bytes(a) == count_bytes(b) - matrices + 4 * rows  # a byte less a weight, and scales in fp32


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_stay_beside_weights_in_8_bits(make, kind):
    denoiser = make(lora=LoraConfig(rank=2))
    plain = make(lora=LoraConfig(rank=2))
    store_blocks(denoiser.backbone, kind)
    layers = list(zip(adapted_layers(denoiser), adapted_layers(plain), strict=True))
    assert layers
    for stored, layer in layers[:3]:
        layer.weight.data = stored.values
        rows = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(stored(rows), layer(rows), atol=1e-4, rtol=1e-4)


def test_what_trains_stays_as_it_is(make):
    denoiser = make()
    for block in denoiser.backbone.blocks:
        block.requires_grad_(True)
    with pytest.raises(UserError, match="int8 is for weights of blocks that do not train"):
        store_blocks(denoiser.backbone, "int8")
    first = next(module for module in denoiser.backbone.blocks[0].modules() if type(module) is nn.Linear)
    first.requires_grad_(False)
    store_blocks(denoiser.backbone, "int8")
    assert sum(isinstance(module, EightBitLinear) for module in denoiser.modules()) == 1
