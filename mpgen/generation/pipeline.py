"""A checkpoint, an image and a prompt to an mp4 of any length: frames are written as they are decoded."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from mpgen import __version__
from mpgen.checkpoints import LoadedModel
from mpgen.data.atomic import replacing
from mpgen.data.video import VideoWriter
from mpgen.generation.decoding import stream_clips
from mpgen.generation.rollout import Sampling, rollout
from mpgen.tensors import Clip, Latents

Frames = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True)
class Job:
    """One video to make.

    Args:
        prompt: the text.
        start: the first frame.
        known: true frames that follow it, a whole number of sections, to be continued; None to begin from the image.
        num_sections: sections to make.
        output: the mp4; a JSON with the same name is written beside it.
    """

    prompt: str
    start: UInt8[np.ndarray, "h w 3"]
    known: Frames | None
    num_sections: int
    output: Path


@dataclass(frozen=True)
class Made:
    """What came of a job.

    Args:
        output: the mp4.
        frames: frames in it, the first one and the known ones included.
        interrupted: stopped by the user before all sections were there.
        seconds_per_section: wall time of each section, decoding and writing included.
    """

    output: Path
    frames: int
    interrupted: bool
    seconds_per_section: tuple[float, ...]


def generate_video(model: LoadedModel, job: Job, sampling: Sampling, progress: bool = True) -> Made:
    """Writes the video of `job`, section by section; Ctrl-C leaves what was done as a playable file.

    Memory does not grow with the number of sections.
    """
    device = next(model.denoiser.parameters()).device
    vae = model.encoders.vae
    start_clip = to_clip(job.start[None]).to(device)
    guidance = model.encoders.guidance([job.prompt], start_clip[:, :, 0]).to(device)
    start = vae.encode(start_clip)
    known = _known_sections(model, job, device)
    card = _card(model, job, sampling)
    settings = json.dumps(card, ensure_ascii=False)
    metadata = {"comment": settings, "title": job.prompt, "encoder_settings": f"mpgen {__version__}"}

    sections = rollout(model.denoiser, start, guidance, job.num_sections, sampling, known)
    bar = tqdm(total=job.num_sections, unit="section", desc=job.output.name, disable=not progress)
    height, width = job.start.shape[:2]
    frames, times, interrupted = 0, [], False
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with bar, VideoWriter(job.output, model.fps, height, width, metadata=metadata, atomic=False) as writer:
        try:
            # Known frames are written as they were given, not as the autoencoder sees them.
            given = [job.start[None]] if job.known is None else [job.start[None], job.known]
            for frame in (frame for part in given for frame in part):
                writer.write(frame)
                frames += 1
            clips = stream_clips(vae, known[-1][:, :, -1:] if known else start, _ticking(sections, bar, times))
            next(clips)  # the frame before the first new one, which is there already
            for clip in clips:
                for frame in to_frames(clip):
                    writer.write(frame)
                    frames += 1
        except KeyboardInterrupt:
            interrupted = True
    made = Made(job.output, frames, interrupted, tuple(times))
    record = card | {"frames": frames, "interrupted": interrupted, "seconds_per_section": [round(t, 4) for t in times]}
    with replacing(job.output.with_suffix(".json")) as half_written:
        half_written.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return made


def to_clip(frames: Frames) -> Clip:
    """Frames in 0 ... 255 as a clip in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def to_frames(clip: Float[Tensor, "1 3 t h w"]) -> Frames:
    """A clip in [-1, 1] as frames in 0 ... 255."""
    return ((clip[0].permute(1, 2, 3, 0).float() + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def _known_sections(model: LoadedModel, job: Job, device: torch.device) -> list[Latents]:
    if job.known is None:
        return []
    clip = to_clip(np.concatenate([job.start[None], job.known])).to(device)
    return list(model.encoders.vae.encode(clip)[:, :, 1:].split(model.denoiser.layout.section, 2))


def _ticking(sections: Iterable[Latents], bar: tqdm, times: list[float]) -> Iterator[Latents]:
    """The sections, with the time from one to the next written down and the progress bar moved."""
    began = time.perf_counter()
    for section in sections:
        yield section  # decoded and written before control comes back
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
        bar.update()


def _card(model: LoadedModel, job: Job, sampling: Sampling) -> dict:
    """What a video must say so that it can be made again."""
    return {
        "mpgen": __version__,
        "prompt": job.prompt,
        "seed": sampling.seed,
        "sampling": asdict(sampling) | {"sampler": sampling.sampler.__name__},
        "fps": model.fps,
        "num_sections": job.num_sections,
        "section_frames": model.denoiser.layout.section_pixel_frames,
        "context_frames": 1 if job.known is None else 1 + len(job.known),
        "checkpoint": {"path": str(model.path), "updates": model.updates},
        "model": model.card,
    }
