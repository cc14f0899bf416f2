"""What one of two ranks does: small trainings, one after the other.

Not a test: a rank cannot share pytest's process.
"""

import json
import os
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from shared_tokens import BACKBONES, computed
from small_models import FPS, SIZE_PX, fit, make_module, trainable_config

from mpgen import cli
from mpgen.backbones.lora import LoraConfig
from mpgen.backbones.spread import tokens_over
from mpgen.data.curriculum import Shuffled
from mpgen.data.datamodule import VideoDataModule
from mpgen.encoders.tiny import TinyEncoders
from mpgen.errors import UserError
from mpgen.training import forcing
from mpgen.training.checkpointing import RunCheckpoints
from mpgen.training.parallel import Replicated
from mpgen.training.strategies import CopiesStrategy, FSDP2Strategy

STRATEGIES = {
    "ddp": CopiesStrategy,
    "fsdp2": FSDP2Strategy,
    "fsdp2 sharded": partial(FSDP2Strategy, sharded_checkpoints=True, sync_every_section=True),
    "ddp, tokens shared": CopiesStrategy,
    "fsdp2, tokens shared": partial(FSDP2Strategy, sync_every_section=True),
}


class Losses:
    """What was logged as the loss of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def __call__(self, module: Any) -> None:
        log = module.log
        module.log = lambda name, value, **how: (
            self.found.append(float(value)) if name == "loss" else None,
            log(name, value, **how),
        )[1]


def small_data(world: str, batch_size: int, accumulate: int = 1, context_parallel: int = 1) -> VideoDataModule:
    """The videos of the small world."""
    return VideoDataModule(
        Path(world) / "manifest.csv", Path(world) / "cache", TinyEncoders(), height_px=SIZE_PX, width_px=SIZE_PX,
        fps=FPS, section_latent_frames=2, max_sections=3, batch_size=batch_size, curriculum=Shuffled(),
        accumulate_batches=accumulate, context_parallel=context_parallel,
    )  # fmt: skip


def train(job: dict[str, Any], world: str, world_size: int, strategy: Any = "auto") -> list[float]:
    """The losses of a job; its last checkpoint is in its folder."""
    shares = world_size if "tokens shared" in job.get("strategy", "") else 1
    module = make_module(
        denoiser=replace(trainable_config(), lora=LoraConfig(rank=job["lora"]) if job["lora"] else None),
        forcing=getattr(forcing, job["forcing"])(),
        train=job["train"],
        clip_norm=job["clip_norm"],
        recompute=job["recompute"],
        accumulate_batches=job.get("accumulate", 1),
        memory_sections=1,
        context_parallel=shares,
        init_from=Path(job["init_from"]),
        optimizer=partial(torch.optim.AdamW, lr=1e-3, eps=1e-4),
    )
    losses = Losses()
    losses(module)
    data = small_data(world, 2 * shares // world_size, job.get("accumulate", 1), shares)
    fit(
        module, data, Path(job["folder"]), job["steps"], ckpt_path=Path(job["resume"]) if job["resume"] else None,
        devices=world_size, strategy=strategy, plugins=[RunCheckpoints()],
    )  # fmt: skip
    return losses.found


def out_of_step() -> str:
    """What this rank says when the other one has a section more."""
    try:
        Replicated().check_lock_step(2 + dist.get_rank(), 7, torch.device("cpu"))
    except UserError as error:
        return str(error)
    return ""


class Trouble(pl.Callback):
    """Rank 1 lets the other one wait at the end of step 1, and fails in step 2."""

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_rank == 1 and trainer.global_step == 1:
            time.sleep(2.5)
        if trainer.global_rank == 1 and trainer.global_step == 2:
            raise ValueError("the disc of rank 1 is gone")


def generating(folder: Path) -> tuple[str, ...]:
    """A command, but for what it writes and how many share it."""
    begun = folder / "alone" / "direct, everything, clipped, recomputed, accumulated" / "last.ckpt"
    return "generate", "--ckpt_path", str(begun), "--scene", "bounce", "--seconds", "1", "--steps", "2"


def mpgen(*argv: str) -> int:
    """The exit status of a command."""
    sys.argv = ["mpgen", *argv]
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    except Exception:  # what Python itself would do; `test_parallel` wants another status and line
        traceback.print_exc()
        return 1
    return 0


def work(jobs: dict[str, Any], folder: Path) -> None:
    """All that one rank does."""
    for job in jobs["jobs"]:
        losses = train(job, jobs["world"], 2, STRATEGIES[job["strategy"]]())
        (Path(job["folder"]) / "losses.json").write_text(json.dumps(losses))
    rank = dist.get_rank()
    torch.save({name: computed(name, tokens_over(2, 4)) for name in BACKBONES}, folder / f"shared_{rank}.pt")
    mpgen(*generating(folder), "--output", str(folder / "shared.mp4"), "--context_parallel", "2")
    (folder / f"out_of_step_{rank}.txt").write_text(out_of_step())
    # Last, because no rank can go on after another one failed.
    with (folder / f"trouble_{rank}.txt").open("w") as said:
        os.dup2(said.fileno(), sys.stderr.fileno())
        status = mpgen("fit", "--config", jobs["trouble"])
    (folder / f"trouble_{rank}.status").write_text(str(status))
