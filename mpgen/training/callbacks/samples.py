"""Sample videos while validating: held-out ones beside the truth, prompts of one's own; mp4 and in TensorBoard."""

import io
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary

from mpgen.conditioning import Conditioning
from mpgen.data.dataset import VideoBatch
from mpgen.generation.decoding import stream_clips
from mpgen.generation.pipeline import Frames, to_frames
from mpgen.generation.rollout import Sampling, rollout
from mpgen.options import choose
from mpgen.sampling import SAMPLERS
from mpgen.tensors import Latents, Still
from mpgen.training.callbacks.ema import EMA
from mpgen.training.callbacks.own_prompts import OwnPrompt, encode_prompts, read_prompts
from mpgen.video.writing import VideoWriter

GIF_WIDTH_PX, GIF_FRAMES = 256, 48
OWN_SECTIONS = 4  # of a video of one's own where nothing says its length


class SampleVideos(pl.Callback):
    """Generates held-out videos from their first frame with the averaged weights: left the truth, right ours.

    The truth is shown as the autoencoder sees it: what the best denoiser could make.

    Args:
        num_videos: how many, from the beginning of the validation split.
        num_sections: sections of each; as many as the video has if None.
        sampler: one of `mpgen.sampling.SAMPLERS`.
        steps: forwards a section.
        shift: of the sampler's noise levels.
        seed: of the noise; the same at every validation.
        every_n_validations: how often.
        prompts: videos of your own beside the held-out ones: a CSV as `mpgen generate --suite` takes, with the columns
            name, image and prompt, and seconds if wanted.
    """

    def __init__(
        self,
        num_videos: int = 4,
        num_sections: int | None = None,
        sampler: str = "euler",
        steps: int = 10,
        shift: float = 1.0,
        seed: int = 0,
        every_n_validations: int = 1,
        prompts: Path | None = None,
    ):
        self.num_videos = num_videos
        self.num_sections = num_sections
        self.sampler = choose(SAMPLERS, sampler, f"sampler {sampler}")
        self.steps = steps
        self.shift = shift
        self.seed = seed
        self.every_n_validations = every_n_validations
        self.validations = 0
        self.rows = [] if prompts is None else read_prompts(Path(prompts))
        self.own: list[OwnPrompt] = []
        self.written: list[Path] = []
        self.written_own: list[Path] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.rows:
            self.own = encode_prompts(self.rows, trainer, pl_module, self.num_sections or OWN_SECTIONS)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validations += 1
        if trainer.sanity_checking or self.validations % self.every_n_validations:
            return
        began = time.monotonic()
        ema = next((c for c in trainer.callbacks if isinstance(c, EMA) and c.shadow), None)
        pl_module.eval()
        if ema is None:
            self._sample(trainer, pl_module)
        else:
            with ema.averaged(pl_module):
                self._sample(trainer, pl_module)
        pl_module.train()
        for logger in trainer.loggers:
            logger.log_metrics({"samples/seconds": time.monotonic() - began}, trainer.global_step)

    def _sample(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = Path(trainer.default_root_dir) / "samples" / f"step{trainer.global_step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        done = 0
        self.written, self.written_own = [], []
        for batch in _of_rank_zero(trainer):
            if done >= self.num_videos:
                break
            batch = batch.to(pl_module.device)
            sections, made = self._generate(trainer, pl_module, batch)
            if not trainer.is_global_zero:
                deque(made, maxlen=0)  # a network in shards needs every rank for a forward pass
                done += len(batch.uids)
                continue
            truth, ours = (_decoded(trainer, batch.start, clips) for clips in (sections, made))
            for i in range(min(len(batch.uids), self.num_videos - done)):
                pair = np.concatenate([truth[i], np.full_like(truth[i][:, :, :2], 255), ours[i]], 2)
                path = folder / f"{done:02d}_{_slug(batch.captions[i])}.mp4"
                if self._write(trainer, path, pair, batch.captions[i], "samples"):
                    self.written.append(path)
                done += 1
        self._sample_own(trainer, pl_module, folder / "prompts")

    def _sample_own(self, trainer: pl.Trainer, pl_module: pl.LightningModule, folder: Path) -> None:
        """One after the other: each may have a length of its own."""
        for number, own in enumerate(self.own):
            start = own.start.to(pl_module.device)
            made = self._roll_out(trainer, pl_module, start, own.conditioning.to(pl_module.device), own.num_sections)
            if not trainer.is_global_zero:
                deque(made, maxlen=0)
                continue
            folder.mkdir(exist_ok=True)
            path = folder / f"{number:02d}_{_slug(own.row.name)}.mp4"
            if self._write(trainer, path, _decoded(trainer, start, made)[0], own.row.prompt, "prompts"):
                self.written_own.append(path)

    def _generate(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: VideoBatch
    ) -> tuple[Sequence[Latents], Iterator[Latents]]:
        """The true sections, and ours as they are asked for."""
        sections = batch.latents.split(pl_module.denoiser.layout.section, 2)[: self.num_sections]
        return sections, self._roll_out(trainer, pl_module, batch.start, batch.conditioning, len(sections))

    def _roll_out(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        start: Still,
        conditioning: Conditioning,
        num_sections: int,
    ) -> Iterator[Latents]:
        """Sections in the order of time."""
        denoiser = pl_module.denoiser
        sampling = Sampling(
            self.sampler,
            self.steps,
            self.shift,
            pl_module.guidance_scale,
            self.seed,
            negative_memory=pl_module.objective.negative_memory,
        )
        given = pl_module.guided(conditioning)
        made = _in_training_precision(trainer, rollout(denoiser, start, given, num_sections, sampling))
        return made if denoiser.layout.direction > 0 else reversed([*made])

    def _write(self, trainer: pl.Trainer, path: Path, frames: Frames, caption: str, group: str) -> bool:
        """Whether the video could be written; `group` is the first part of its name in the logs."""
        # A week's run must not end because a picture could not be written.
        try:
            fps = trainer.datamodule.settings.fps
            even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
            with VideoWriter(path, fps, even.shape[1], even.shape[2], metadata={"title": caption}) as writer:
                for frame in even:
                    writer.write(frame)
        except (OSError, ValueError) as error:
            rank_zero_warn(f"sample video {path} could not be written: {error}")
            return False
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                summary = Summary(value=[_animation(f"{group}/{path.stem}", even, fps)])
                logger.experiment._get_file_writer().add_summary(summary, trainer.global_step)
            elif isinstance(logger, WandbLogger):
                logger.log_video(f"{group}/{path.stem}", [str(path)], trainer.global_step, caption=[caption])
        return True


def _of_rank_zero(trainer: pl.Trainer) -> Iterator[VideoBatch]:
    """Rank 0's validation batches, on every rank."""
    batches = iter(trainer.datamodule.val_dataloader())
    while (batch := trainer.strategy.broadcast(next(batches, None) if trainer.is_global_zero else None)) is not None:
        yield batch


@torch.no_grad()
def _in_training_precision(trainer: pl.Trainer, made: Iterator[Latents]) -> Iterator[Latents]:
    """The same sections; frozen weights may be of another dtype than those that train."""
    while True:
        with trainer.precision_plugin.forward_context():
            section = next(made, None)
        if section is None:
            return
        yield section


@torch.no_grad()
def _decoded(trainer: pl.Trainer, start: torch.Tensor, sections: Iterable[torch.Tensor]) -> list[Frames]:
    data = trainer.datamodule
    clips = stream_clips(data.encoders.vae, start, sections, data.settings.sections_alone)
    clips = torch.cat([clip.cpu() for clip in clips], 2)
    return [to_frames(clip[None]) for clip in clips]


def _animation(tag: str, frames: Frames, fps: float) -> Summary.Value:
    """A GIF as an image summary: `add_video` needs a library that no longer works with current ones."""
    step = max(len(frames) // GIF_FRAMES, 1)
    shrink = max(frames.shape[2] / GIF_WIDTH_PX, 1)
    size = (round(frames.shape[2] / shrink), round(frames.shape[1] / shrink))
    images = [Image.fromarray(frame).resize(size).quantize(128) for frame in frames[::step]]
    buffer = io.BytesIO()
    duration_ms = round(1000 * step / fps)
    images[0].save(buffer, format="GIF", save_all=True, append_images=images[1:], duration=duration_ms, loop=0)
    image = Summary.Image(height=size[1], width=size[0], colorspace=3, encoded_image_string=buffer.getvalue())
    return Summary.Value(tag=tag, image=image)


def _slug(caption: str) -> str:
    """The first words of a caption, fit for a file name."""
    return re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")[:40].strip("-") or "video"
