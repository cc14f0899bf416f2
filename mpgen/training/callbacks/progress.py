"""How far the work is, and where to find what was made."""

import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from mpgen import caveats
from mpgen.training.callbacks.samples import SampleVideos


class ResumedProgressBar(TQDMProgressBar):
    """Lightning's, which amid an epoch begins with no total and counts what was done before as done just now."""

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_start(trainer, *_)
        if done := trainer.fit_loop.epoch_loop.batch_progress.current.processed:
            bar, total = self.train_progress_bar, min(trainer.num_training_batches, done + self.total_train_batches)
            bar.reset(int(total) if math.isfinite(total) else None)
            bar.initial = bar.n = bar.last_print_n = done
            bar.set_description(f"Epoch {trainer.current_epoch}")


class ClosingWords(pl.Callback):
    """Says at the end what was made, where it is, and what to type next."""

    def __init__(self) -> None:
        self.began = 0.0
        self.first_step: int | None = None
        self.saved_step: int | None = None

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        self.saved_step = trainer.global_step

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.first_step = trainer.global_step
        trained = pl_module.trainable
        rank_zero_info(f"{trained.count:,} of {sum(p.numel() for p in pl_module.parameters()):,} parameters train")

    @rank_zero_only
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or not self.began:
            return
        run = Path(trainer.default_root_dir)
        minutes, seconds = divmod(round(time.monotonic() - self.began), 60)
        checkpoint = next((c.last_model_path for c in trainer.callbacks if isinstance(c, ModelCheckpoint)), "")
        sampler = next((c for c in trainer.callbacks if isinstance(c, SampleVideos)), None)
        samples, own = ([], []) if sampler is None else (sampler.written, sampler.written_own)
        how = "stopped" if trainer.interrupted else "done"
        lines = [f"{how}: steps {self.first_step} to {trainer.global_step} in {minutes} min {seconds:02d} s"]
        if self.first_step is None:
            lines = [f"nothing to train: {trainer.global_step} steps are done (trainer.max_steps, trainer.max_epochs)"]
        if checkpoint:
            step = "" if self.saved_step is None else f" (step {self.saved_step})"
            lines.append(f"  checkpoint   {_shown(Path(checkpoint))}{step}")
        if samples:
            lines.append(f"  samples      {_shown(samples[0].parent)} ({len(samples)} mp4, left the truth, right ours)")
        if own:
            lines.append(f"  prompts      {_shown(own[0].parent)} ({len(own)} mp4)")
        if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
            lines.append(
                f"  TensorBoard  tensorboard --logdir {_shown(run)}  (panels: http://localhost:6006/#custom_scalars)"
            )
        if checkpoint:
            command = (
                f"mpgen generate --ckpt_path {_shown(Path(checkpoint))} --scene bounce --output {_shown(run)}/out.mp4"
            )
            lines += ["next:", f"  {command}"]
        print("\n" + "\n".join(lines), flush=True)
        caveats.say(pl_module.caveats)


def _shown(path: Path) -> Path:
    """Relative to where the user stands, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
