import pytest
import torch

from mpgen.backbones.rope import flatten_rotation, no_rotation, pool_rotation, rotate, rotation_grid

AXES, THETA = (16, 56, 56), 256.0  # those of the released weights


def one_token(place: tuple[int, int, int], axes=(4, 6, 8)) -> torch.Tensor:
    """The rotation of one patch at (time, row, column)."""
    grid = rotation_grid(torch.tensor([[place[0]]]), place[1] + 1, place[2] + 1, axes, THETA)
    return grid[:, :, 0, place[1], place[2]][:, None]


def score(query, key, at, to) -> float:
    turned = [rotate(x, one_token(place)) for x, place in ((query, at), (key, to))]
    return float((turned[0] * turned[1]).sum())


def test_rotation_keeps_the_length_of_queries_and_keys():
    x = torch.randn(2, 3, 4 * 2 * 5, 18)
    rotation = flatten_rotation(rotation_grid(torch.tensor([[0, 3, 9, 400], [7, 8, 9, 10]]), 2, 5, (4, 6, 8), THETA))
    torch.testing.assert_close(rotate(x, rotation).norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(rotate(x, rotation), x, atol=0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_attention_scores_depend_on_the_distance_along_each_axis_alone(axis):
    query, key = torch.randn(2, 1, 1, 1, 18, generator=torch.Generator().manual_seed(axis)).unbind(0)
    at, to = [2, 3, 1], [4, 1, 2]
    before = score(query, key, tuple(at), tuple(to))
    at[axis] += 5
    to[axis] += 5
    assert score(query, key, tuple(at), tuple(to)) == pytest.approx(before, abs=1e-5)
    to[axis] += 1
    assert abs(score(query, key, tuple(at), tuple(to)) - before) > 1e-3


def test_rotation_is_the_formula_of_adjacent_pairs():
    x = torch.randn(1, 1, 1, 6)
    angles = torch.tensor([5.0, 3.0, 2.0])  # two channels an axis: frequency one
    pairs = torch.view_as_complex(x.reshape(3, 2).contiguous()) * torch.polar(torch.ones(3), angles)
    got = rotate(x, one_token((5, 3, 2), axes=(2, 2, 2)))
    torch.testing.assert_close(got.flatten(), torch.view_as_real(pairs).flatten())


def magnitudes(kernel: int) -> torch.Tensor:
    """Length of the pooled (cos, sin) vectors of one packed token, by frequency."""
    pooled = pool_rotation(rotation_grid(torch.arange(1, kernel + 1)[None], kernel, kernel, AXES, THETA), kernel)
    assert pooled.shape[2:] == (1, 1, 1)
    return torch.hypot(*pooled[0, :, 0, 0, 0].chunk(2))


def test_history_packed_4x_turns_with_the_magnitudes_of_the_released_model():
    got = magnitudes(4)
    assert got[:4].tolist() == pytest.approx([0.474, 0.850, 0.961, 0.990], abs=6e-4)
    assert got[8:12].tolist() == pytest.approx([0.474, 0.625, 0.738, 0.819], abs=6e-4)
    torch.testing.assert_close(got[36:], got[8:36])


def test_history_packed_2x_keeps_at_least_878_thousandths():
    assert float(magnitudes(2).min()) == pytest.approx(0.8776, abs=1e-4)


def test_pooling_repeats_the_last_row_of_an_odd_grid():
    grid = rotation_grid(torch.tensor([[1, 2]]), 3, 2, (4, 6, 8), THETA)
    pooled = pool_rotation(grid, 2)
    assert pooled.shape == (1, 18, 1, 2, 1)
    torch.testing.assert_close(pooled[0, :, 0, 1, 0], grid[0, :, :, 2].mean((1, 2)))


def test_every_video_of_a_batch_has_its_own_frame_indices():
    both = rotation_grid(torch.tensor([[1, 2], [30, 31]]), 2, 3, (4, 6, 8), THETA)
    for i, indices in enumerate(([1, 2], [30, 31])):
        alone = rotation_grid(torch.tensor([indices]), 2, 3, (4, 6, 8), THETA)
        torch.testing.assert_close(both[i : i + 1], alone)
    assert not torch.allclose(both[0], both[1])


def test_autocast_cannot_blur_consecutive_frames_beyond_256():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        grid = rotation_grid(torch.tensor([[300, 301]]), 1, 1, AXES, THETA)
    assert grid.dtype == torch.float32
    cos, sin = (part[0, 0, :, 0, 0].double() for part in grid.chunk(2, 1))
    torch.testing.assert_close(cos, torch.tensor([300.0, 301.0]).double().cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(sin, torch.tensor([300.0, 301.0]).double().sin(), atol=1e-5, rtol=0)


def test_tokens_without_a_place_are_not_turned():
    x = torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(rotate(x, no_rotation(2, 4, 6, x.device)), x)


def test_time_turns_slowest_in_the_order_of_tokens():
    tokens = flatten_rotation(rotation_grid(torch.tensor([[0, 1]]), 3, 5, (4, 6, 8), THETA))
    assert tokens.shape == (1, 2 * 3 * 5, 18)
    time_cos, row_cos, column_cos = tokens[0, :, 0], tokens[0, :, 2], tokens[0, :, 5]
    assert time_cos.tolist() == pytest.approx([1.0] * 15 + [0.5403] * 15, abs=1e-4)
    torch.testing.assert_close(row_cos[:15], torch.arange(3.0).cos().repeat_interleave(5))
    torch.testing.assert_close(column_cos[:5], torch.arange(5.0).cos())
