import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpgen.training.noise import KeyedNoise, keyed_generator

LIKE = torch.zeros(2, 3, 2, 4, 5)


def drawn(seed=0, step=7, uid="video", section=2):
    draw = KeyedNoise(seed, step).draw([uid], section, LIKE[:1])
    return draw.noise[0], draw.uniform[0]


def test_the_same_key_gives_the_same_numbers():
    for a, b in zip(drawn(), drawn(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 8}, {"step": "validation"}, {"uid": "video2"}, {"section": 3}])
def test_any_other_part_of_the_key_gives_other_numbers(other):
    (noise, uniform), (noise2, uniform2) = drawn(), drawn(**other)
    assert (noise - noise2).abs().mean() > 0.5
    assert uniform != uniform2


def test_a_video_has_its_numbers_in_any_company_and_order():
    uids = ["a", "b", "c"]
    like = LIKE[:1].expand(3, -1, -1, -1, -1)
    together = KeyedNoise(3, 1).draw(uids, 0, like)
    turned = KeyedNoise(3, 1).draw(uids[::-1], 0, like)
    assert torch.equal(together.noise, turned.noise.flip(0))
    assert torch.equal(together.uniform, turned.uniform.flip(0))
    alone = KeyedNoise(3, 1).draw(["b"], 0, LIKE[:1])
    assert torch.equal(alone.noise[0], together.noise[1])


def test_drawing_neither_reads_nor_moves_the_global_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = drawn()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(drawn()[0], first[0])


def test_noise_is_standard_normal_and_levels_are_uniform():
    uids = [str(number) for number in range(400)]
    draw = KeyedNoise(0, 0).draw(uids, 0, torch.zeros(1, 1, 2, 3, 4).expand(400, -1, -1, -1, -1))
    assert float(draw.noise.mean()) == pytest.approx(0, abs=0.04)
    assert float(draw.noise.std()) == pytest.approx(1, abs=0.04)
    assert float(draw.uniform.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(draw.uniform.std()) == pytest.approx(12**-0.5, abs=0.03)


def test_numbers_come_in_the_dtype_of_the_latents():
    assert KeyedNoise(0, 0).draw(["a"], 0, LIKE[:1].bfloat16()).noise.dtype == torch.bfloat16


@given(st.text(), st.text())
def test_no_two_names_run_into_each_other(first, second):
    same = first == second
    a, b = (float(torch.rand((), generator=keyed_generator(0, name), dtype=torch.float64)) for name in (first, second))
    assert (a == b) == same
    joined, split = keyed_generator(first + second), keyed_generator(first, second)
    assert joined.initial_seed() != split.initial_seed()
