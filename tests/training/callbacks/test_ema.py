import pytest
import torch

from mpgen.training.callbacks.ema import EMA
from mpgen.training.parameters import select_trainable


@pytest.fixture
def module(make_module, perturb):
    made = make_module()
    made.configure_model()
    perturb(made)
    return made


@pytest.fixture
def step(trainer, module):
    """A step after which every weight has the given value."""

    def make(ema, value: float) -> None:
        with torch.no_grad():
            for parameter in module.denoiser.parameters():
                parameter.fill_(value)
        ema.on_train_batch_end(trainer, module, None, None, 0)

    return make


@pytest.mark.parametrize("on_host", [False, True])
def test_the_average_is_the_recursion_by_hand(trainer, module, step, on_host):
    ema = EMA(decay=0.25, on_host=on_host)
    with torch.no_grad():
        for parameter in module.denoiser.parameters():
            parameter.fill_(1.0)
    ema.on_train_start(trainer, module)
    wanted = 1.0
    for number, value in enumerate((2.0, 5.0, -3.0), start=1):
        step(ema, value)
        decay = min(0.25, (1 + number) / (10 + number))
        wanted = decay * wanted + (1 - decay) * value
        for shadow in ema.shadow.values():
            torch.testing.assert_close(shadow, torch.full_like(shadow, wanted))


def test_only_weights_that_train_are_averaged(trainer, module):
    chosen = select_trainable(module.denoiser, ["backbone.norm_out.*"])
    ema = EMA()
    ema.on_train_start(trainer, module)
    assert set(ema.shadow) == set(chosen.names)


def test_the_average_goes_on_from_its_saved_state(trainer, module, step):
    straight, broken = EMA(0.5), EMA(0.5)
    for ema in (straight, broken):
        ema.on_train_start(trainer, module)
    step(straight, 2.0)
    step(broken, 2.0)
    resumed = EMA(0.5)
    resumed.load_state_dict(broken.state_dict())
    resumed.on_train_start(trainer, module)
    step(straight, 7.0)
    step(resumed, 7.0)
    assert resumed.steps == straight.steps == 2
    assert all(torch.equal(resumed.shadow[name], straight.shadow[name]) for name in straight.shadow)


def test_the_average_stands_in_for_the_weights_and_they_come_back(trainer, module):
    ema = EMA()
    ema.on_train_start(trainer, module)
    own = {name: p.detach().clone() for name, p in module.denoiser.named_parameters()}
    for shadow in ema.shadow.values():
        shadow.fill_(3.0)
    with ema.averaged(module):
        assert all(bool((p == 3.0).all()) for p in module.denoiser.parameters())
    assert all(torch.equal(p, own[name]) for name, p in module.denoiser.named_parameters())


def test_the_weights_come_back_after_an_error(trainer, module):
    ema = EMA()
    ema.on_train_start(trainer, module)
    for shadow in ema.shadow.values():
        shadow.fill_(3.0)
    own = {name: p.detach().clone() for name, p in module.denoiser.named_parameters()}
    with pytest.raises(RuntimeError, match="while sampling"), ema.averaged(module):
        raise RuntimeError("while sampling")
    assert all(torch.equal(p, own[name]) for name, p in module.denoiser.named_parameters())


def test_a_checkpoint_holds_the_average(trained):
    saved = torch.load(trained, weights_only=True)
    ema = saved["callbacks"]["EMA"]
    assert ema["steps"] == 2
    assert {f"denoiser.{name}" for name in ema["shadow"]} == set(saved["state_dict"])
    moved = [not torch.equal(shadow, saved["state_dict"][f"denoiser.{name}"]) for name, shadow in ema["shadow"].items()]
    assert any(moved)
