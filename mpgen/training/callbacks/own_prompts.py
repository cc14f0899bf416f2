"""Prompts and start images of one's own, to be sampled while a model trains; encoded once, before training begins."""

from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.conditioning import Conditioning
from mpgen.data.suite import SuiteRow, read_suite
from mpgen.errors import UserError
from mpgen.generation.pipeline import to_clip
from mpgen.sections import sections_for
from mpgen.video.pictures import cover, read_picture

OPTION = "SampleVideos.prompts"


@dataclass(frozen=True)
class OwnPrompt:
    """A video to make.

    Args:
        row: what the user wrote.
        start: the start image, encoded alone.
        conditioning: features of prompt and start image.
        num_sections: to make.
    """

    row: SuiteRow
    start: Float[Tensor, "1 c 1 h w"]
    conditioning: Conditioning
    num_sections: int


def read_prompts(path: Path) -> list[SuiteRow]:
    """The rows of a suite, their images with the suite's folder before them.

    Raises:
        UserError: the file or one of its images cannot be read.
    """
    rows = [replace(row, image=str(path.parent / row.image)) for row in read_suite(path, OPTION)]
    if not rows:
        raise UserError(f"{OPTION} {path} has no row: wanted one for every video")
    for number, row in enumerate(rows, 1):
        read_picture(Path(row.image), f"{path} row {number}: image")
    return rows


@torch.no_grad()
def encode_prompts(
    rows: list[SuiteRow], trainer: pl.Trainer, pl_module: pl.LightningModule, num_sections: int
) -> list[OwnPrompt]:
    """The videos of all rows, the same on every rank; rank 0 encodes them, and gives the encoders' memory back.

    Args:
        rows: of `read_prompts`.
        trainer: of a run whose data is there.
        pl_module: makes them.
        num_sections: where a row does not say how many seconds.
    """
    encoded = None
    if trainer.is_global_zero:
        data, device = trainer.datamodule, trainer.strategy.root_device
        size, section = data.settings, pl_module.denoiser_config.layout.section_pixel_frames
        encoded = []
        for row in rows:
            picture = cover(read_picture(Path(row.image), OPTION), size.height_px, size.width_px)
            still = to_clip(picture[None]).to(device)
            start = data.encoders.vae.encode(still).float().cpu()
            conditioning = data.encoders.conditioning([row.prompt], still[:, :, 0]).to("cpu", torch.float32)
            sections = num_sections if row.seconds is None else sections_for(row.seconds, size.fps, section)
            encoded.append(OwnPrompt(row, start, conditioning, sections))
        data.encoders.release()
    return trainer.strategy.broadcast(encoded)
