"""What the config says is what runs, also after a resume."""

from functools import partial

import pytest
import torch

from mpgen.training.optimizers import MuonAdamW
from mpgen.training.resuming import Settings
from mpgen.training.schedule import WarmupCosine

STEPS = 5


ADAMW = partial(torch.optim.AdamW, lr=1e-2)


def made(make_optimizer=ADAMW, make_scheduler=None):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = make_optimizer([(f"blocks.{name}", p) for name, p in model.named_parameters()])
    scheduler = (make_scheduler or partial(WarmupCosine, warmup_steps=2, total_steps=20))(optimizer)
    return model, optimizer, scheduler


def train(model, optimizer, scheduler, steps=STEPS):
    for _ in range(steps):
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


def resumed(first, **options):
    """What another config makes of the state of `first`, and what is said."""
    model, optimizer, scheduler = made(**options)
    own = Settings.of(optimizer, scheduler)
    model.load_state_dict(first[0].state_dict())
    optimizer.load_state_dict(first[1].state_dict())
    scheduler.load_state_dict(first[2].state_dict())
    return (model, optimizer, scheduler), own.apply(optimizer, scheduler)


def test_without_a_change_nothing_is_said_and_nothing_changes():
    first = made()
    train(*first)
    again, said = resumed(first)
    assert said == []
    assert again[1].state_dict()["param_groups"] == first[1].state_dict()["param_groups"]
    assert again[2].state_dict() == first[2].state_dict()


def test_a_changed_learning_rate_counts_at_once_and_is_said():
    first = made()
    train(*first)
    (_, optimizer, scheduler), said = resumed(first, make_optimizer=partial(torch.optim.AdamW, lr=1e-5))
    assert said == ["learning rate: 0.01 -> 1e-05"]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-5 * scheduler.factor(STEPS))
    assert scheduler.base_lrs == [1e-5]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"betas": (0.5, 0.6)}, "betas: (0.9, 0.999) -> (0.5, 0.6)"),
        ({"weight_decay": 0.3}, "weight_decay: 0.01 -> 0.3"),
    ],
)
def test_changed_betas_and_weight_decay_count_and_keep_the_moments(options, said):
    first = made()
    train(*first)
    (_, optimizer, _), lines = resumed(first, make_optimizer=partial(torch.optim.AdamW, lr=1e-2, **options))
    assert lines == [said]
    for key, value in options.items():
        assert optimizer.param_groups[0][key] == value
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    assert all(torch.equal(a, b["exp_avg"]) for a, b in zip(moments, first[1].state.values(), strict=True))


def test_a_changed_schedule_goes_on_from_the_step_that_was_reached():
    first = made()
    train(*first)
    other = partial(WarmupCosine, warmup_steps=2, total_steps=200, final_fraction=0.5)
    (_, optimizer, scheduler), said = resumed(first, make_scheduler=other)
    assert said == ["total_steps: 20 -> 200", "final_fraction: 0.1 -> 0.5"]
    assert scheduler.last_epoch == STEPS
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * scheduler.factor(STEPS))


def test_a_schedule_of_torch_takes_the_new_settings_too():
    options = {"make_scheduler": partial(torch.optim.lr_scheduler.StepLR, step_size=3)}
    first = made(**options)
    train(*first)
    options = {"make_scheduler": partial(torch.optim.lr_scheduler.StepLR, step_size=9, gamma=0.5)}
    (_, _, scheduler), said = resumed(first, **options)
    assert said == ["step_size: 3 -> 9", "gamma: 0.1 -> 0.5"]
    assert (scheduler.step_size, scheduler.gamma, scheduler.last_epoch) == (9, 0.5, STEPS)


def test_both_groups_of_muon_and_adamw_follow():
    make = partial(MuonAdamW, muon=["*blocks.*weight"])
    first = made(make_optimizer=make)
    train(*first)
    (_, optimizer, _), said = resumed(first, make_optimizer=partial(make, muon_lr=1e-3, lr=1e-4))
    assert said == ["learning rate of group 0: 0.02 -> 0.001", "learning rate of group 1: 0.002 -> 0.0001"]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-3, 1e-4]


def test_a_resumed_run_of_lightning_trains_at_the_new_rate(fit, make_module, make_small_data, tmp_path):
    fit(make_module(), make_small_data(), tmp_path, 2)
    module = make_module(optimizer=partial(torch.optim.AdamW, lr=0.0))
    before = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    fit(module, make_small_data(), tmp_path, 4, ckpt_path=tmp_path / "last.ckpt")
    after = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert after["global_step"] == 4
    assert all(torch.equal(after["state_dict"][name], tensor) for name, tensor in before.items())
