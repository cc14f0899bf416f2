"""A run that `test_resume.py` starts, kills and starts again: it appends every video it consumes to a file."""

import os
import signal
import warnings
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mpgen.data.curriculum import Shuffled
from mpgen.data.datamodule import VideoDataModule
from mpgen.encoders.tiny import TinyEncoders

MAX_EPOCHS, EVERY, SEED = 3, 2, 4


class Recorder(LightningModule):
    """One weight, a real optimizer and a real gradient exchange."""

    def __init__(self, folder: Path, kill_at: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.automatic_optimization = False
        self.folder, self.kill_at = folder, kill_at

    def training_step(self, batch, batch_idx):
        if self.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward((self.weight * batch.latents.mean()).sum())
        optimizer.step()
        with (self.folder / f"rank{self.global_rank}.txt").open("a") as file:
            file.write(f"{self.global_step} {self.current_epoch} {batch.num_sections} {' '.join(batch.uids)}\n")

    def configure_optimizers(self):
        # asking for it makes Lightning 2.6 look at the loader early, after which it does not restore a loader's state
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_data(folder: Path, batch_size: int, num_workers: int) -> VideoDataModule:
    return VideoDataModule(
        folder / "manifest.csv",
        folder / "cache",
        TinyEncoders(),
        height_px=16,
        width_px=24,
        section_latent_frames=2,
        max_sections=3,
        batch_size=batch_size,
        num_workers=num_workers,
        curriculum=Shuffled(),
        seed=SEED,
    )


def main(folder: Path, devices: int, batch_size: int, num_workers: int, kill_at: int) -> None:
    """One rank; `kill_at` is a step, -1 for never."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        callbacks=[ModelCheckpoint(checkpoints, save_last=True, every_n_train_steps=EVERY, save_top_k=0)],
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=MAX_EPOCHS,
        limit_val_batches=0,
        default_root_dir=folder,
    )
    ckpt_path = last if last.exists() else None
    trainer.fit(Recorder(folder, kill_at), make_data(folder, batch_size, num_workers), ckpt_path=ckpt_path)
