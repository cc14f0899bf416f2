"""How fast it goes, how well that uses the device, and how long it still takes."""

import resource
import time
from dataclasses import dataclass
from itertools import chain
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Int

from mpgen.data.dataset import VideoBatch
from mpgen.data.sampler import GroupSampler
from mpgen.training.devices import peak_of
from mpgen.training.dry_run import Precision, Shape, count_context, dry_run

GIB = 2**30
HOUR_SECONDS = 3600
ON_THE_BAR = {"videos_per_second": "videos/s", "hours_left": "hours_left", "mfu": "mfu"}  # shorter, for want of room


class Throughput(pl.Callback):
    """Logs rates over all ranks, without the time of validation.

    All are called `speed/...`: `videos_per_second`, `sections_per_second`, `tokens_per_second` (of video, history,
    memory, image and text); `share_waiting` of the time between steps, for data or for a checkpoint;
    `peak_memory_gib` the most that was in use; `hours_left` what the curriculum still holds at this rate; `mfu`, on
    GPUs whose peak is known, the share of it that the network's own operations reach, without those that are done
    twice.

    Args:
        every_n_steps: how often; a figure is the mean over that many steps.
    """

    def __init__(self, every_n_steps: int = 10):
        self.every_n_steps = every_n_steps
        self.began = self.ended = 0.0
        self._restart()
        self.tokens_a_section: dict[Shape, int] = {}
        self.section_flops: int | None = None
        self.ahead: SectionsAhead | None = None

    def _restart(self) -> None:
        self.videos = self.sections = self.tokens = self.steps = 0
        self.computing = self.waiting = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ahead = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.began = time.perf_counter()
        self.waiting += self.began - self.ended if self.ended else 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: VideoBatch, batch_idx: int
    ) -> None:
        self.ended = time.perf_counter()
        self.computing += self.ended - self.began
        self.steps += 1
        videos = len(batch.uids) * trainer.world_size // pl_module.context_parallel
        self.videos += videos
        trained = videos * (batch.num_sections - batch.num_given)
        self.sections += trained
        self.tokens += trained * self._tokens(pl_module, batch)
        if self.steps == self.every_n_steps:
            self._log(trainer, pl_module, batch)
            self._restart()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.waiting += time.perf_counter() - self.ended if self.ended else 0.0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended = time.perf_counter()

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: VideoBatch) -> None:
        seconds = self.computing + self.waiting
        found = {
            "videos_per_second": self.videos / seconds,
            "sections_per_second": self.sections / seconds,
            "tokens_per_second": self.tokens / seconds,
            "share_waiting": self.waiting / seconds,
            "peak_memory_gib": _most_memory(pl_module.device) / GIB,
        }
        if self.ahead is None or trainer.current_epoch - self.ahead.first_epoch >= len(self.ahead.epochs) - 1:
            self.ahead = SectionsAhead.of(trainer)
        if self.ahead is not None:
            found["hours_left"] = self.ahead.left(trainer) / (self.sections / seconds) / HOUR_SECONDS
        peak = peak_of(pl_module.device)
        if peak is not None:
            flops = self.sections * self._flops(pl_module, batch) / trainer.world_size
            found["mfu"] = flops / seconds / peak
        for name, value in found.items():
            pl_module.log(f"speed/{name}", value)
            if name in ON_THE_BAR:
                pl_module.log(ON_THE_BAR[name], value, prog_bar=True, logger=False)

    def _tokens(self, pl_module: pl.LightningModule, batch: VideoBatch) -> int:
        """Of one section of one video of this batch."""
        shape = _shape(pl_module, batch)
        if shape not in self.tokens_a_section:
            _, rows, columns = pl_module.denoiser.backbone.grid(batch.start)
            own = pl_module.denoiser.layout.section * rows * columns
            context = count_context(pl_module.denoiser_config, shape)
            self.tokens_a_section[shape] = own + context + shape.image_tokens + shape.text_tokens
        return self.tokens_a_section[shape]

    def _flops(self, pl_module: pl.LightningModule, batch: VideoBatch) -> int:
        """Of one section of one video; counted once, so texts of other lengths are taken for as long."""
        if self.section_flops is None:
            shape = _shape(pl_module, batch)
            of_a_rank = dry_run(pl_module, shape, Precision(), "none").section_flops[-1]
            self.section_flops = pl_module.context_parallel * of_a_rank
        return self.section_flops


@dataclass(frozen=True)
class SectionsAhead:
    """Sections that the groups of the epochs to come train on over all ranks, summed up once.

    Args:
        before: trained before each group of these epochs, and before their end.
        epochs: where in `before` each of them begins.
        first_epoch: the number of the first one.
    """

    before: Int[np.ndarray, " sums"]
    epochs: tuple[int, ...]
    first_epoch: int

    @classmethod
    def of(cls, trainer: pl.Trainer) -> "SectionsAhead | None":
        """From the current epoch to the last; None where the end is not known."""
        loader, limits = trainer.train_dataloader, (trainer.max_epochs, trainer.max_steps)
        if loader is None or limits in ((-1, -1), (None, -1)):
            return None
        assert isinstance(loader.sampler, GroupSampler)
        first = trainer.current_epoch
        end = trainer.max_epochs if trainer.max_epochs not in (None, -1) else first + 1
        counts = [
            [group.num_trained * len(group.items) for group in loader.sampler.plan(epoch)[: _batches(trainer)]]
            for epoch in range(first, end)
        ]
        epochs = np.cumsum([0, *map(len, counts)]).tolist()
        return cls(np.cumsum([0, *chain.from_iterable(counts)]), tuple(epochs), first)

    def left(self, trainer: pl.Trainer) -> int:
        """From the next group on, in as many steps as the trainer still makes."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        here = min(self.epochs[trainer.current_epoch - self.first_epoch] + done, len(self.before) - 1)
        steps = trainer.max_steps - trainer.global_step if trainer.max_steps >= 0 else len(self.before)
        return int(self.before[min(here + steps, len(self.before) - 1)] - self.before[here])


def _batches(trainer: pl.Trainer) -> int:
    return int(min(trainer.num_training_batches, 10**12))


def _shape(pl_module: pl.LightningModule, batch: VideoBatch) -> Shape:
    """Of one video of this batch."""
    rows, columns = batch.latents.shape[-2:]
    image = batch.conditioning.image if pl_module.denoiser_config.backbone.widths.image is not None else None
    return Shape(1, rows, columns, batch.conditioning.text.shape[1], 0 if image is None else image.shape[1])


def _most_memory(device: torch.device) -> int:
    """Bytes: of tensors on a GPU, of the process without one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
