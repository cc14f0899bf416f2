import math

import pytest
import torch

from mpgen.backbones.hunyuan.blocks import TokenRefiner
from mpgen.backbones.layers import FeedForward, Modulation, RMSNorm, modulate, sinusoid


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
