from types import SimpleNamespace

import lightning.pytorch as pl
import pytest

from mpgen.data.dataset import VideoBatch
from mpgen.training.callbacks import progress
from mpgen.training.callbacks.progress import ClosingWords, Throughput
from mpgen.training.callbacks.samples import SampleVideos


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to move."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now.seconds)
    return now


class Log(pl.LightningModule):
    """A module that only keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, float] = {}

    def log(self, name, value, prog_bar=False) -> None:
        self.logged[name] = value


def test_throughput_counts_waiting_for_data_and_leaves_out_validation(clock, trainer, latents, make_guidance):
    module = Log()
    batch = VideoBatch(latents(3, 1), latents(3, 8), make_guidance(2, 2, 2), 4, ("a", "b", "c"), ("", "", ""))
    throughput = Throughput(every_n_updates=2)
    throughput.on_train_batch_start(trainer, module, batch, 0)
    clock.seconds += 1
    throughput.on_train_batch_end(trainer, module, None, batch, 0)
    assert module.logged == {}
    throughput.on_validation_start(trainer, module)
    clock.seconds += 1000
    throughput.on_validation_end(trainer, module)
    clock.seconds += 2  # waiting
    throughput.on_train_batch_start(trainer, module, batch, 1)
    clock.seconds += 3
    throughput.on_train_batch_end(trainer, module, None, batch, 1)
    assert module.logged == pytest.approx({"videos/s": 2 * 3 / 6, "sections/s": 2 * 3 * 4 / 6})


def test_a_run_ends_by_saying_what_it_made_and_what_to_type_next(fit, make_module, make_small_data, tmp_path, capsys):
    sampler = SampleVideos(num_videos=1, num_sections=1, steps=1)
    fit(
        make_module(), make_small_data(), tmp_path, 2,
        callbacks=[sampler, Throughput(1), ClosingWords()], limit_val_batches=1, val_check_interval=2,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "done: updates 0 to 2 in 0 min" in said
    assert f"{tmp_path / 'last.ckpt'}" in said
    assert f"{sampler.written[0].parent} (1 mp4" in said
    assert f"tensorboard --logdir {tmp_path}" in said
    assert f"mpgen generate --ckpt_path {tmp_path / 'last.ckpt'}" in said
