"""The data path as a LightningDataModule: a manifest in, batches of ordered sections out, resumable at any batch."""

import hashlib
import signal
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from mpgen.data.build import build_cache
from mpgen.data.cache import CacheDirectory, CacheEntry, CacheIndex, CacheSettings, open_cache
from mpgen.data.curriculum import Curriculum, Group, Groups, Sorted, plan_epoch, plan_hash
from mpgen.data.dataset import CachedVideos, VideoBatch
from mpgen.data.manifest import read_training_records
from mpgen.data.position import Position
from mpgen.data.sampler import GroupSampler, ResumableLoader
from mpgen.encoders.base import Encoders
from mpgen.errors import UserError
from mpgen.machine import MAX_BATCH, check_processes
from mpgen.world.settings import WorldSettings


class VideoDataModule(LightningDataModule):
    """Videos of a manifest, encoded once, in batches of equal numbers of sections, short ones first.

    Args:
        manifest: a CSV with a column `video`, see `mpgen.data.manifest`.
        cache: folder for latents; made if missing.
        encoders: what turns pixels and captions into features.
        height_px: frames are scaled to cover this size and cropped.
        width_px: likewise.
        fps: frames per second; other rates are resampled.
        section_latent_frames: latent frames of a section, the layout's `section`.
        max_sections: longer videos are cut here.
        batch_size: videos a rank takes at a time.
        accumulate_batches: batches of one step, the model's `accumulate_batches`; they come as one.
        context_parallel: so many ranks next to each other get the same videos, the model's `context_parallel`.
        curriculum: which videos come first.
        num_workers: processes that read the cache, and that decode what is not in it yet.
        seed: another seed gives another order.
        world: render this world beside the manifest first, if it is not there.
        dtype: how latents and features are stored; bfloat16 halves the cache.
        shared_disk: all machines see the same folders, so one of them prepares; if false, each prepares its own.
        sections_alone: every section is encoded by itself, the layout's `alone`.
    """

    def __init__(
        self,
        manifest: Path,
        cache: Path,
        encoders: Encoders,
        height_px: int = 64,
        width_px: int = 64,
        fps: float | int = 24.0,
        section_latent_frames: int = 4,
        max_sections: int = 8,
        batch_size: int = 16,
        accumulate_batches: int = 1,
        context_parallel: int = 1,
        curriculum: Curriculum = Sorted(),  # noqa: B008 (frozen)
        num_workers: int = 0,
        seed: int = 0,
        world: WorldSettings | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        shared_disk: bool = True,
        sections_alone: bool = False,
    ) -> None:
        super().__init__()
        self.prepare_data_per_node = not shared_disk
        if not 1 <= batch_size <= MAX_BATCH:
            raise UserError(f"data.batch_size {batch_size}: wanted 1 to {MAX_BATCH} videos")
        if not 1 <= accumulate_batches <= MAX_BATCH // batch_size:
            raise UserError(
                f"model.accumulate_batches {accumulate_batches} of {batch_size} videos (data.batch_size): wanted at "
                f"least 1, and at most {MAX_BATCH} videos in all"
            )
        if seed < 0:
            raise UserError(f"data.seed {seed}: wanted 0 or more")
        check_processes(num_workers, "data.num_workers", at_least=0)
        self.manifest, self.cache, self.encoders, self.world = Path(manifest), Path(cache), encoders, world
        self.settings = CacheSettings(
            height_px, width_px, float(fps), max_sections, section_latent_frames, dtype, sections_alone
        )
        self.batch_size, self.num_workers, self.seed, self.curriculum = batch_size, num_workers, seed, curriculum
        self.step_size = batch_size * accumulate_batches  # videos a rank takes in one step
        self.context_parallel = context_parallel
        self.index: CacheIndex | None = None
        self._loader: ResumableLoader | None = None
        self._resume: Position | None = None

    def prepare_data(self) -> None:
        """Renders the world if one is asked for and missing, and encodes what is not in the cache."""
        if self.world is not None:
            from mpgen.world.writer import render_world

            render_world(self.world, self.manifest.parent)
        records, bad_rows = read_training_records(self.manifest)
        directory = self._directory()
        if not directory.path.exists():
            directory.begin(self.settings, self.encoders.fingerprint, self.encoders.caveat)
            for line in directory.differences():
                rank_zero_info(f"{directory.path} is a new cache; {line}")
        self.index = build_cache(
            records,
            self.encoders,
            self.settings,
            self.cache,
            manifest_rejects=bad_rows,
            num_workers=self.num_workers,
        )
        self.encoders.release()  # training needs no encoder's weights
        rank_zero_info(self.describe())

    def setup(self, stage: str | None = None) -> None:
        self.index = open_cache(read_training_records(self.manifest)[0], self._directory())

    def train_dataloader(self) -> ResumableLoader:
        dataset = CachedVideos(self._entries("train"), self.settings.section_latent_frames)
        world_size, rank = self.ranks
        plan = lru_cache(maxsize=2)(self._plan)
        sampler = GroupSampler(dataset, plan, world_size, rank, on_epoch=self._align_progress)
        self._loader = ResumableLoader(dataset, batch_size=None, sampler=sampler, **self._workers)
        self._loader.resume = None if self._resume is None else self._resume.next_batch
        self._validate_every_epoch(len(self._loader))
        return self._loader

    def val_dataloader(self) -> DataLoader[VideoBatch]:
        """Each validation video once, in the order of the manifest within each number of sections."""
        entries = self._entries("val")
        world_size, rank = self.ranks
        shares = _in_order(entries, self.batch_size, world_size)[rank::world_size]
        dataset = CachedVideos(entries, self.settings.section_latent_frames)
        sampler = GroupSampler(dataset, lambda epoch: shares, world_size=1, rank=0)
        return DataLoader(dataset, batch_size=None, sampler=sampler, **self._workers)

    @property
    def _workers(self) -> dict[str, Any]:
        return {"num_workers": self.num_workers, "worker_init_fn": _ignore_interrupts}

    def transfer_batch_to_device(self, batch: VideoBatch, device: torch.device, dataloader_idx: int) -> VideoBatch:
        return batch.to(device)

    def state_dict(self) -> dict:
        """Where the run is: `batch` steps of `epoch` are done. Free of the rank, because only rank 0's is kept."""
        if self._loader is None or self.trainer is None:
            return {}
        return {
            "epoch": self._loader.begun_epoch,
            "batch": self.trainer.fit_loop.epoch_loop.batch_progress.current.processed,
            "group_size": self.step_size * self.ranks[0],
            "plan": self._plan_hash(),
            "content": self._content_hash(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on where a run stopped; with another number of ranks or batch size, after the same number of videos.

        Raises:
            UserError: the plan is another: other videos, seed or curriculum.
        """
        if state["plan"] != self._plan_hash():
            raise UserError(
                f"{self.manifest}: the checkpoint was made with other videos, seed or curriculum; resume with those, "
                "or start a new run from its weights"
            )
        if state.get("content", self._content_hash()) != self._content_hash():
            rank_zero_warn(
                f"{self.manifest}: captions or videos have changed since the checkpoint was made; the run goes on with "
                "what they are now, and its losses are not those of an uninterrupted run"
            )
        epoch, group_size = state["epoch"], state["group_size"]
        saved = Position(epoch, state["batch"], len(self._plan(epoch, group_size)))
        new_size = self.step_size * self.ranks[0]
        self._resume = saved.regrouped(group_size, new_size, len(self._plan(epoch)))
        if self._loader is not None:  # some strategies restore after the first look at the data
            self._loader.resume = self._resume.next_batch

    def describe(self) -> str:
        """A few lines on what there is to train on."""
        index = self._opened()
        lines = []
        for split in ("train", "val"):
            counts = Counter(entry.num_sections for entry in index.split(split))
            sections = sum(length * count for length, count in counts.items())
            hours = self.settings.hours(sections, counts.total())
            lengths = ", ".join(f"{length}: {counts[length]}" for length in sorted(counts))
            lines.append(
                f"{split}: {counts.total()} videos, {sections} sections, {hours:.2f} h; by sections {lengths or 'none'}"
            )
        if index.sourceless:
            lines.append(f"of {index.sourceless} the source is gone; what was cached of them is used")
        lines.append(f"rejected: {index.rejected}" + (f", see {index.rejects_file}" if index.rejected else ""))
        return "\n".join(lines)

    def _opened(self) -> CacheIndex:
        if self.index is None:
            self.setup()
        assert self.index is not None
        return self.index

    def _directory(self) -> CacheDirectory:
        return CacheDirectory.of(self.cache, self.settings, self.encoders.fingerprint)

    def _entries(self, split: str) -> tuple[CacheEntry, ...]:
        entries = self._opened().split(split)
        if not entries:
            without = "; or train without validation: trainer.limit_val_batches: 0" if split == "val" else ""
            raise UserError(
                f"{self.manifest}: no usable video in split `{split}`, see {self._opened().rejects_file}{without}"
            )
        return entries

    @property
    def ranks(self) -> tuple[int, int]:
        """How many ranks have videos of their own, and which of them this one is; a group that shares is one."""
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size // self.context_parallel, self.trainer.global_rank // self.context_parallel

    def _plan(self, epoch: int, group_size: int | None = None) -> Groups:
        """The groups of an epoch; `group_size` is that of this run if not given."""
        counts = [entry.num_sections for entry in self._entries("train")]
        world_size, batch_size = (self.ranks[0], self.step_size) if group_size is None else (1, group_size)
        return plan_epoch(
            counts,
            world_size=world_size,
            batch_size=batch_size,
            seed=self.seed,
            epoch=epoch,
            curriculum=self.curriculum,
        )

    def _plan_hash(self) -> str:
        entries = self._entries("train")
        counts = [entry.num_sections for entry in entries]
        return plan_hash([entry.uid for entry in entries], counts, self.seed, self.curriculum)

    def _content_hash(self) -> str:
        """Of the captions and video files that the plan's uids stand for."""
        content = [(entry.uid, entry.caption, entry.sha256) for entry in self._entries("train")]
        return hashlib.sha256(repr(content).encode("utf-8", "backslashreplace")).hexdigest()[:16]

    def _validate_every_epoch(self, steps: int) -> None:
        """An epoch shorter than the interval ends with a validation; Lightning would end the run in its place."""
        trainer = self.trainer
        if trainer is None or trainer.check_val_every_n_epoch is None or not trainer.limit_val_batches:
            return
        if isinstance(trainer.val_check_interval, int) and trainer.val_check_interval > steps:
            rank_zero_info(
                f"trainer.val_check_interval {trainer.val_check_interval}: an epoch has {steps} steps, "
                "and a validation comes at its end"
            )
            trainer.val_check_interval = steps

    def _align_progress(self, epoch: int) -> None:
        """Lets Lightning count the batches of a resumed epoch as we do, should batches be of another size now.

        It has either gone on to the next epoch, or is about to find that the one it restored has nothing left.
        """
        resume, self._resume = self._resume, None
        if resume is None or self.trainer is None:
            return
        done = resume.batch if epoch == resume.epoch else 0
        current = self.trainer.fit_loop.epoch_loop.batch_progress.current
        # 1 when it was saved in on_train_batch_end; Lightning is about to add that to `completed` itself
        unfinished = current.processed - current.completed
        current.ready = current.started = current.processed = done
        current.completed = done - unfinished


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; when the workers end is up to the one that they work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_order(entries: tuple[CacheEntry, ...], batch_size: int, world_size: int) -> list[Group]:
    """Batches of equal lengths, of each as many as fill all ranks: they run in lock step, so one may come twice."""
    batches: list[Group] = []
    for length in sorted({entry.num_sections for entry in entries}):
        items = [item for item, entry in enumerate(entries) if entry.num_sections == length]
        alike = [Group(length, tuple(items[first : first + batch_size])) for first in range(0, len(items), batch_size)]
        batches += alike + alike[-1:] * (-len(alike) % world_size)
    return batches
