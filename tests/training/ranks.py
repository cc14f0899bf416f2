"""One rank of a small training, started by tests with torchrun's variables: `python ranks.py JOBS.json`.

Not a test: a process of its own, because a rank cannot share pytest's.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import FPS, SIZE_PX, fit, make_module

from mpgen.data.datamodule import VideoDataModule
from mpgen.data.plan import Shuffled
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
}


class Losses:
    """What was logged as the loss of every update."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def __call__(self, module: Any) -> None:
        log = module.log
        module.log = lambda name, value, **how: (
            self.found.append(float(value)) if name == "loss" else None,
            log(name, value, **how),
        )[1]


def small_data(world: str, batch_size: int) -> VideoDataModule:
    """The videos of conftest's small world."""
    return VideoDataModule(
        Path(world) / "manifest.csv", Path(world) / "cache", TinyEncoders(), height_px=SIZE_PX, width_px=SIZE_PX,
        fps=FPS, section_latent_frames=2, max_sections=3, batch_size=batch_size, curriculum=Shuffled(),
    )  # fmt: skip


def train(job: dict[str, Any], world: str, world_size: int, strategy: Any = "auto") -> list[float]:
    """The losses of a job; its last checkpoint is in its folder."""
    module = make_module(
        forcing=getattr(forcing, job["forcing"])(),
        train=job["train"],
        clip_norm=job["clip_norm"],
        recompute=job["recompute"],
        memory_windows=1,
        init_from=Path(job["init_from"]),
        optimizer=partial(torch.optim.AdamW, lr=1e-3, eps=1e-4),
    )
    losses = Losses()
    losses(module)
    fit(
        module, small_data(world, 2 // world_size), Path(job["folder"]), job["updates"],
        ckpt_path=Path(job["resume"]) if job["resume"] else None,
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


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    for job in jobs["jobs"]:
        losses = train(job, jobs["world"], 2, STRATEGIES[job["strategy"]]())
        (Path(job["folder"]) / "losses.json").write_text(json.dumps(losses))
    Path(sys.argv[1]).with_name(f"out_of_step_{dist.get_rank()}.txt").write_text(out_of_step())


if __name__ == "__main__":
    main()
