"""The module under a real Trainer: one step a batch, exact resuming, mixed precision, strict beginnings."""

from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch

from mpgen.data.curriculum import Staged
from mpgen.errors import UserError
from mpgen.training import module as module_file
from mpgen.training.forcing import DirectForcing, TeacherForcing
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import Objective
from mpgen.training.targets import Rehearsal


class Watcher(pl.Callback):
    """Losses, and what else was logged."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.logged: list[dict[str, float]] = []
        self.sections: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.losses.append(self.logged[-1]["loss"])
        self.sections.append(batch.num_sections)


def weights(module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.denoiser.state_dict().items()}


@pytest.mark.parametrize("forcing", [TeacherForcing(), DirectForcing()])
def test_a_resumed_run_goes_on_to_the_same_losses_and_weights_bit_for_bit(
    fit, make_module, make_small_data, tmp_path, forcing
):
    straight, first, second = Watcher(), Watcher(), Watcher()
    whole = make_module(forcing=forcing)
    fit(whole, make_small_data(), tmp_path / "straight", 6, callbacks=[straight])
    fit(make_module(forcing=forcing), make_small_data(), tmp_path / "broken", 3, callbacks=[first])
    torch.manual_seed(99)  # nothing may hang on the global generator
    resumed = make_module(forcing=forcing)
    trainer = fit(
        resumed, make_small_data(), tmp_path / "broken", 6,
        callbacks=[second], ckpt_path=tmp_path / "broken" / "last.ckpt",
    )  # fmt: skip
    assert trainer.global_step == 6
    assert first.losses + second.losses == straight.losses
    assert len(set(straight.losses)) == 6
    assert [*first.sections, *second.sections] == straight.sections
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(resumed)[name], tensor), name
    ends = [torch.load(tmp_path / run / "last.ckpt", weights_only=True) for run in ("straight", "broken")]
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]
    assert ends[0]["callbacks"]["EMA"]["steps"] == ends[1]["callbacks"]["EMA"]["steps"] == 6
    for name, tensor in ends[0]["callbacks"]["EMA"]["shadow"].items():
        assert torch.equal(ends[1]["callbacks"]["EMA"]["shadow"][name], tensor), name


def test_a_step_is_one_optimizer_step_with_the_gradient_summed_over_sections(
    fit, make_module, make_small_data, tmp_path
):
    watcher = Watcher()
    trainer = fit(make_module(), make_small_data(), tmp_path, 5, callbacks=[watcher])
    assert trainer.global_step == 5
    assert sum(watcher.sections) > 5
    assert [logged["curriculum/sections"] for logged in watcher.logged] == watcher.sections
    assert all(logged["gradient_norm"] > 0 for logged in watcher.logged)
    rates = [logged["learning_rate"] for logged in watcher.logged]
    assert rates[:3] == pytest.approx([1.5e-3, 3e-3, 3e-3])  # the rate that the step was made with


class FirstBatch(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 0:
            self.batch = batch


def test_the_gradient_of_a_step_is_that_of_the_mean_over_sections(fit, make_module, make_small_data, tmp_path):
    watcher, first = Watcher(), FirstBatch()
    data = make_small_data(curriculum=Staged(((3, 1),)), seed=1)
    fit(make_module(), data, tmp_path, 1, callbacks=[watcher, first])
    fresh = make_module()
    fresh.configure_model()
    batch = replace(first.batch, conditioning=first.batch.conditioning.guided(fresh.guidance_scale))
    losses = [section.loss for section in fresh.objective.losses(fresh.denoiser, batch, KeyedNoise(0, 0))]
    mean = torch.stack(losses).mean()
    mean.backward()
    assert len(losses) > 1
    norm = torch.cat([p.grad.flatten() for p in fresh.denoiser.parameters() if p.grad is not None]).norm()
    assert watcher.logged[0]["gradient_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert watcher.losses[0] == pytest.approx(mean.item(), rel=1e-5)


def test_noise_is_keyed_by_the_step_across_epochs(fit, make_module, make_small_data, tmp_path, monkeypatch):
    keys = []
    monkeypatch.setattr(module_file, "KeyedNoise", lambda *key: keys.append(key) or KeyedNoise(*key))
    trainer = fit(make_module(seed=4), make_small_data(), tmp_path, 5)
    assert trainer.current_epoch > 0
    assert keys == [(4, step) for step in range(5)]


def test_weights_begin_alike_whatever_the_global_generator_says(make_module):
    modules = []
    for state in (0, 1):
        torch.manual_seed(state)
        modules.append(make_module(seed=7))
        modules[-1].configure_model()
    other = make_module(seed=8)
    other.configure_model()
    assert all(torch.equal(a, b) for a, b in zip(*(weights(m).values() for m in modules), strict=True))
    name = "backbone.x_embedder.proj.weight"
    assert not torch.equal(weights(other)[name], weights(modules[0])[name])


def test_the_head_trains_without_touching_the_trunk(fit, make_module, make_small_data, tmp_path):
    module = make_module(train=["backbone.norm_out.*", "backbone.proj_out.*"])
    module.configure_model()
    before = weights(module)
    fit(module, make_small_data(), tmp_path, 2)
    changed = {name for name, tensor in weights(module).items() if not torch.equal(tensor, before[name])}
    assert changed  # at least proj_out: a new one is zero, so the norm before it gets no gradient in the first step
    assert all(name.startswith(("backbone.norm_out.", "backbone.proj_out.")) for name in changed)


def test_bf16_mixed_precision_trains(fit, make_module, make_small_data, tmp_path):
    watcher, module = Watcher(), make_module()
    fit(module, make_small_data(), tmp_path, 2, callbacks=[watcher], precision="bf16-mixed")
    assert all(torch.isfinite(torch.tensor(watcher.losses)))
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in module.denoiser.parameters())


@pytest.mark.parametrize(
    ("precision", "frozen", "said"),
    [
        ("32-true", "bfloat16", r"frozen_dtype is bfloat16 and trainer\.precision 32-true: wanted bf16-mixed"),
        ("bf16-true", "float32", r"trainer\.precision bf16-true: wanted bf16-mixed or 32-true"),
    ],
)
def test_a_precision_that_cannot_be_is_refused_in_one_line(
    fit, make_module, make_small_data, tmp_path, precision, frozen, said
):
    with pytest.raises(UserError, match=said) as error:
        fit(make_module(frozen_dtype=frozen), make_small_data(), tmp_path, 1, precision=precision)
    assert "\n" not in str(error.value)


def test_two_validations_of_the_same_weights_give_the_same_loss(fit, make_module, make_small_data, tmp_path):
    module, data = make_module(), make_small_data()
    trainer = fit(module, data, tmp_path, 2, limit_val_batches=2, val_check_interval=1)
    found = [float(trainer.callback_metrics["val_loss"])]
    for state in (0, 1):
        torch.manual_seed(state)
        with torch.no_grad():
            sections = [
                loss
                for batch in data.val_dataloader()
                for loss in module.objective.losses(
                    module.denoiser,
                    replace(batch, conditioning=batch.conditioning.guided(module.guidance_scale)),
                    KeyedNoise(0, "validation"),
                )
            ]
        found.append(float(torch.cat([section.per_video for section in sections]).mean()))
    assert found[1] == found[2] > 0
    assert len(sections) == 1 + 3
    assert {"val_loss_section/00", "val_loss_section/02"} <= trainer.callback_metrics.keys()


def test_an_epoch_shorter_than_the_interval_ends_with_a_validation(fit, make_module, make_small_data, tmp_path, caplog):
    with caplog.at_level("INFO"):
        trainer = fit(make_module(), make_small_data(), tmp_path, 8, limit_val_batches=1, val_check_interval=500)
    assert "val_check_interval 500: an epoch has" in caplog.text
    assert 0 < trainer.val_check_interval <= 8
    assert "val_loss" in trainer.callback_metrics


def test_weights_to_begin_from_are_those_of_the_checkpoint(make_module, trained):
    module = make_module(init_from=trained)
    module.configure_model()
    state = torch.load(trained, weights_only=True)["state_dict"]
    for name, tensor in weights(module).items():
        assert torch.equal(tensor, state[f"denoiser.{name}"]), name


@pytest.mark.parametrize(
    ("field", "wrong", "said"),
    [
        ("in_channels", 4, "latents features of width 4, but TinyEncoders gives 16"),
        ("text_embed_dim", 63, "text features of width 63, but TinyEncoders gives 128"),
        ("pooled_projection_dim", 3, "pooled features of width 3, but TinyEncoders gives 128"),
        ("image_proj_dim", 50, "image features of width 50, but TinyEncoders gives 52"),
    ],
)
def test_a_network_that_does_not_fit_the_encoders_is_an_error_that_names_the_features(
    fit, make_module, make_small_data, tmp_path, field, wrong, said
):
    config = make_module().denoiser_config
    module = make_module(denoiser=replace(config, backbone=replace(config.backbone, **{field: wrong})))
    with pytest.raises(UserError, match=rf"model\.denoiser\.backbone takes {said}"):
        fit(module, make_small_data(), tmp_path, 1)


def test_pictures_that_patches_do_not_tile_are_an_error_that_names_the_size(
    fit, make_module, make_small_data, tmp_path
):
    config = make_module().denoiser_config
    module = make_module(denoiser=replace(config, memory=None, backbone=replace(config.backbone, patch_size=3)))
    with pytest.raises(UserError, match=r"32x32.*multiples of 24"):
        fit(module, make_small_data(), tmp_path, 1)


def test_accumulated_batches_make_the_steps_of_one_large_batch_and_a_resumed_run_loses_none(
    fit, make_module, make_small_data, tmp_path, count_calls
):
    large, first, second = Watcher(), Watcher(), Watcher()
    whole = make_module(target=Rehearsal(0.5))
    fit(whole, make_small_data(4), tmp_path / "large", 4, callbacks=[large])
    calls = count_calls(Objective, "losses")
    for watcher, steps, checkpoint in ((first, 1, None), (second, 4, tmp_path / "small" / "last.ckpt")):
        parted = make_module(target=Rehearsal(0.5), accumulate_batches=2)
        data = make_small_data(2, accumulate_batches=2)
        trainer = fit(parted, data, tmp_path / "small", steps, callbacks=[watcher], ckpt_path=checkpoint)
    assert [len(batch.uids) for _, _, batch, _ in calls] == [2] * 8
    assert trainer.global_step == 4
    logged = first.logged + second.logged
    for one, other in zip(large.logged, logged, strict=True):
        assert other.keys() <= one.keys()  # a resumed run has not logged what only earlier steps had
        for name in other:
            assert other[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5), name
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(parted)[name], tensor, rtol=1e-3, atol=1e-4)
