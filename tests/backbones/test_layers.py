import math

import pytest
import torch

from mpgen.backbones.hunyuan.blocks import TokenRefiner
from mpgen.backbones.layers import FeedForward, Modulation, RMSNorm, attend, modulate, sinusoid


def test_the_sinusoid_is_cosines_then_sines_of_falling_frequencies():
    got = sinusoid(torch.tensor([[0.0], [871.3]]), 6)
    assert got.shape == (2, 1, 6)
    assert got[0, 0].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    angles = [871.3 * 10_000 ** (-i / 3) for i in range(3)]
    wanted = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
    assert got[1, 0].tolist() == pytest.approx(wanted, abs=1e-4)


def test_modulation_by_one_vector_a_token_or_a_video_is_the_same_when_they_agree(perturb):
    modulation = perturb(Modulation(6, 2))
    conditioning = torch.randn(2, 6)
    x = torch.randn(2, 5, 6)
    for_video = modulate(x, *modulation(conditioning))
    for_tokens = modulate(x, *modulation(conditioning[:, None].expand(-1, 5, -1)))
    torch.testing.assert_close(for_tokens, for_video)


def test_modulate_normalises_then_scales_then_shifts():
    x = 7 + 3 * torch.randn(2, 4, 50)
    got = modulate(x, torch.full((2, 1, 50), 0.5), torch.full((2, 1, 50), 1.0))
    torch.testing.assert_close(got.mean(-1), torch.full((2, 4), 0.5))
    torch.testing.assert_close(got.std(-1, unbiased=False), torch.full((2, 4), 2.0))


def test_the_norm_of_queries_has_root_mean_square_one_times_its_weight():
    norm = RMSNorm(5)
    norm.weight.data = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0])
    x = 30 * torch.randn(3, 4, 5)
    got = norm(x) / norm.weight
    torch.testing.assert_close(got.square().mean(-1), torch.ones(3, 4))
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_attention_looks_only_where_the_mask_is_true():
    query, key, value = torch.randn(3, 2, 3, 4, 5).unbind(0)
    mask = torch.tensor([[True, True, False, True], [True, False, False, False]])[:, None, None]
    got = attend(query, key, value, mask)
    torch.testing.assert_close(got[1], value[1, :, 0].flatten().expand(4, -1))
    torch.testing.assert_close(got[:1], attend(query[:1], key[:1, :, [0, 1, 3]], value[:1, :, [0, 1, 3]], None))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_over_many_keys_is_the_same_as_over_few(monkeypatch, masked):
    query, key, value = torch.randn(2, 3, 70, 8), torch.randn(2, 3, 90, 8), torch.randn(2, 3, 90, 8)
    mask = torch.arange(90)[None, None, None] < torch.tensor([40, 90])[:, None, None, None] if masked else None
    wanted = attend(query, key, value, mask)
    monkeypatch.setattr("mpgen.backbones.layers.LONG", 90)
    monkeypatch.setattr("mpgen.backbones.layers.QUERIES", 7)  # several pieces
    monkeypatch.setattr("mpgen.backbones.layers.F.scaled_dot_product_attention", None)  # not called
    torch.testing.assert_close(attend(query, key, value, mask), wanted, atol=2e-6, rtol=0)


def test_attention_over_many_keys_gives_gradients(monkeypatch):
    monkeypatch.setattr("mpgen.backbones.layers.LONG", 9)
    query = torch.randn(1, 1, 5, 4, requires_grad=True)
    attend(query, torch.randn(1, 1, 9, 4), torch.randn(1, 1, 9, 4), None).square().sum().backward()
    assert bool(query.grad.any())


def test_feed_forward_acts_on_every_token_alone():
    layer = FeedForward(6, 2.5, torch.nn.SiLU())
    assert layer.net[0].proj.out_features == 15
    x = torch.randn(1, 4, 6)
    torch.testing.assert_close(layer(x)[:, 2:3], layer(x[:, 2:3]))


@pytest.fixture
def refiner(perturb):
    torch.manual_seed(0)
    return perturb(TokenRefiner(text_width=5, width=8, heads=2, layers=2, mlp_ratio=2.0))


def test_the_refiner_does_not_see_padding(refiner):
    text, timestep = torch.randn(2, 6, 5), torch.tensor([300.0, 871.3])
    mask = torch.arange(6)[None] < torch.tensor([[3], [6]])
    loud = torch.where(mask[..., None], text, 50.0)
    torch.testing.assert_close(refiner(text, timestep, mask)[mask], refiner(loud, timestep, mask)[mask])
    alone = refiner(text[:1, :3], timestep[:1], mask[:1, :3])
    torch.testing.assert_close(refiner(text, timestep, mask)[:1, :3], alone)


def test_the_refiner_knows_the_time_step_and_the_whole_text(refiner):
    text, mask = torch.randn(1, 4, 5), torch.ones(1, 4, dtype=torch.bool)
    before = refiner(text, torch.tensor([300.0]), mask)
    assert (refiner(text, torch.tensor([310.0]), mask) - before).abs().max() > 1e-5
    other = text.clone()
    other[:, 3] += 1
    assert (refiner(other, torch.tensor([300.0]), mask) - before)[:, 0].abs().max() > 1e-5
