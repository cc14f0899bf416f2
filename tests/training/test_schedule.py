from itertools import pairwise

import pytest
import torch

from mpgen.training.schedule import WarmupCosine


def rates(steps: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupCosine(optimizer, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine():
    found = rates(14, warmup_steps=4, total_steps=12, final_fraction=0.1)
    assert found[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert found[8] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert found[12:] == pytest.approx([0.2, 0.2])
    assert all(a >= b for a, b in pairwise(found[4:]))


def test_the_rate_may_stay_at_the_peak_before_it_falls():
    held = rates(14, warmup_steps=2, hold_steps=5, total_steps=11, final_fraction=0.1)
    assert held[2:8] == pytest.approx([2.0] * 6)
    assert held[7:] == pytest.approx(rates(7, warmup_steps=0, total_steps=4, final_fraction=0.1))


def test_a_final_fraction_of_one_keeps_the_peak():
    assert rates(9, warmup_steps=0, total_steps=5, final_fraction=1.0) == pytest.approx([2.0] * 9)


def test_warmup_alone_may_fill_the_run():
    assert rates(4, warmup_steps=4, total_steps=4, final_fraction=0.0) == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_a_restored_schedule_goes_on_where_it_was():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupCosine(optimizer, 2, 9, 0.0)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    resumed = WarmupCosine(other, 2, 9, 0.0)
    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    for each in (schedule, resumed):
        each.optimizer.step()
        each.step()
    straight = rates(7, warmup_steps=2, total_steps=9, final_fraction=0.0)
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == pytest.approx(straight[6])
