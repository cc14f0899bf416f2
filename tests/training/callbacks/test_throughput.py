from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from mpgen.conditioning import Conditioning
from mpgen.data.curriculum import Staged
from mpgen.data.dataset import VideoBatch
from mpgen.training.callbacks import throughput as throughput_file
from mpgen.training.callbacks.throughput import GIB, SectionsAhead, Throughput
from mpgen.training.dry_run import DryRun, Precision, Shape

VIDEOS, SECTIONS, TEXT, IMAGE = 3, 4, 5, 6
TOKENS_OF_SECTION = 2 * 2 * 2  # latent frames of 4x4 latents, in patches of 2x2


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to move."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(throughput_file.time, "perf_counter", lambda: now.seconds)
    return now


@pytest.fixture
def logged(make_module):
    """A module that only keeps what is logged, and what that is."""
    module, found = make_module(), {}
    module.configure_model()
    module.log = lambda name, value, **how: found.update({name: value})
    return module, found


@pytest.fixture
def batch(make_module):
    backbone = make_module().denoiser_config.backbone
    latents = torch.randn(VIDEOS, backbone.in_channels, 2 * SECTIONS, 4, 4)
    conditioning = Conditioning(
        torch.randn(VIDEOS, TEXT, backbone.text_embed_dim),
        torch.ones(VIDEOS, TEXT, dtype=torch.bool),
        torch.randn(VIDEOS, backbone.pooled_projection_dim),
        torch.randn(VIDEOS, IMAGE, backbone.image_proj_dim),
    )
    return VideoBatch(latents[:, :, :1], latents, conditioning, SECTIONS, ("a", "b", "c"), ("", "", ""))


def test_rates_count_waiting_and_leave_out_validation(clock, trainer, logged, batch):
    module, found = logged
    throughput = Throughput(every_n_steps=2)
    throughput.on_train_batch_start(trainer, module, batch, 0)
    clock.seconds += 1
    throughput.on_train_batch_end(trainer, module, None, batch, 0)
    assert found == {}
    throughput.on_validation_start(trainer, module)
    clock.seconds += 1000
    throughput.on_validation_end(trainer, module)
    clock.seconds += 2  # waiting
    throughput.on_train_batch_start(trainer, module, batch, 1)
    clock.seconds += 3
    throughput.on_train_batch_end(trainer, module, None, batch, 1)
    assert found["speed/videos_per_second"] == pytest.approx(2 * VIDEOS / 6)
    assert found["speed/sections_per_second"] == pytest.approx(2 * VIDEOS * SECTIONS / 6)
    assert found["speed/share_waiting"] == pytest.approx(2 / 6)
    tokens = (
        TOKENS_OF_SECTION
        + TEXT
        + IMAGE
        + throughput_file.count_context(module.denoiser_config, Shape(1, 4, 4, TEXT, IMAGE))
    )
    assert found["speed/tokens_per_second"] == pytest.approx(2 * VIDEOS * SECTIONS * tokens / 6)
    assert 0.01 < found["speed/peak_memory_gib"] < 100
    assert "speed/mfu" not in found  # nobody knows the peak of this machine


def test_on_a_gpu_of_known_peak_mfu_is_the_share_of_it(clock, trainer, logged, batch, monkeypatch):
    module, found = logged
    asked = []
    step = DryRun((5 * 10**8, 7 * 10**8), 0, 0, 0, 0)  # later sections have more to see
    monkeypatch.setattr(throughput_file, "peak_of", lambda device: 1e9)
    monkeypatch.setattr(throughput_file, "dry_run", lambda *arguments: asked.append(arguments) or step)
    throughput = Throughput(every_n_steps=1)
    for _ in range(2):
        throughput.on_train_batch_start(trainer, module, batch, 0)
        clock.seconds += 10
        throughput.on_train_batch_end(trainer, module, None, batch, 0)
        assert found["speed/mfu"] == pytest.approx(VIDEOS * SECTIONS * 7e8 / 10 / 1e9)
    assert asked == [(module, Shape(1, 4, 4, TEXT, IMAGE), Precision(), "none")]


class Left(pl.Callback):
    """The sections that are left after each step, and at the last one how that was known at the first."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self.ahead: SectionsAhead | None = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.ahead = self.ahead or SectionsAhead.of(trainer)
        self.found.append(self.ahead.left(trainer))


@pytest.mark.parametrize(("steps", "epochs"), [(3, -1), (-1, 2)])
def test_the_end_is_as_far_as_the_sections_that_the_curriculum_still_holds(
    fit, make_module, make_small_data, tmp_path, steps, epochs
):
    left = Left()
    curriculum = Staged(((1, 2), (3, 2))) if steps > 0 else Staged(((1, 1), (3, 1)))
    data = make_small_data(curriculum=curriculum, seed=3)
    fit(make_module(), data, tmp_path, steps, callbacks=[left], max_epochs=epochs)
    plan = [*data._plan(0), *data._plan(1)][: steps if steps > 0 else None]
    sizes = [group.num_sections * len(group.items) for group in plan]
    assert left.found == [sum(sizes[number + 1 :]) for number in range(len(sizes))]
    assert len(set(left.found)) == len(sizes) >= 3


def test_a_run_logs_its_rates(fit, make_module, make_small_data, tmp_path):
    trainer = fit(make_module(), make_small_data(), tmp_path, 2, callbacks=[Throughput(1)])
    found = trainer.callback_metrics
    for name in ("videos_per_second", "sections_per_second", "tokens_per_second", "peak_memory_gib"):
        assert found[f"speed/{name}"] > 0
    assert 0 <= found["speed/share_waiting"] <= 1
    assert found["speed/peak_memory_gib"] * GIB > 2**20
