"""A checkpoint, an image and a prompt to an mp4 of any length: frames are written as they are decoded."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from shutil import rmtree
from socket import gethostname
from tempfile import TemporaryDirectory, gettempdir

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from mpgen import __version__
from mpgen.atomic import replacing
from mpgen.checkpoints import LoadedModel
from mpgen.conditioning import Conditioning
from mpgen.errors import UserError
from mpgen.generation.caches import Forwards
from mpgen.generation.decoding import stream_clips
from mpgen.generation.prompts import LivePrompts, Prompts
from mpgen.generation.rollout import Sampling, Script, rollout
from mpgen.generation.scripted import Scripted
from mpgen.generation.store import LatentStore
from mpgen.generation.watching import Steps, Watcher
from mpgen.memory.controls import OtherVideo
from mpgen.sections import ORDERS, Forward, Layout
from mpgen.tensors import Clip, Latents, Still
from mpgen.video.writing import VideoWriter

Frames = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True)
class Job:
    """One video to make.

    Args:
        prompt: the text.
        start: the first frame; None to begin from the text alone.
        known: true frames that follow it, to be continued; as many whole sections as they hold, counted from their end,
            are remembered. None to begin from the image or the text.
        num_sections: sections to make.
        output: the mp4; a JSON with the same name is written beside it.
        end: the last frame, for orders that take one.
        order: which sections come first, see `mpgen.sections.ORDERS`.
        prompts: texts by the time in the video, or given while it is made, in place of `prompt`.
        blank_px: height and width of a video without a start.
        other: another video, of which start and known frames are remembered in place of this one's: a control.
    """

    prompt: str
    start: UInt8[np.ndarray, "h w 3"] | None
    known: Frames | None
    num_sections: int
    output: Path
    end: UInt8[np.ndarray, "h w 3"] | None = None
    order: type[Layout] = Forward
    prompts: Prompts | LivePrompts | None = None
    blank_px: tuple[int, int] | None = None
    other: "Job | None" = None

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the video."""
        size = self.blank_px if self.start is None else self.start.shape[:2]
        assert size is not None
        return size

    @property
    def num_given(self) -> int:
        """Frames that are there already."""
        return (self.start is not None) + (0 if self.known is None else len(self.known))


@dataclass(frozen=True)
class Made:
    """What came of a job.

    Args:
        output: the mp4.
        frames: frames in it, the first one and the known ones included.
        interrupted: stopped by the user before all sections were there.
        seconds_per_section: wall time of each section, decoding and writing included.
        forwards: what a cache computed and skipped.
    """

    output: Path
    frames: int
    interrupted: bool
    seconds_per_section: tuple[float, ...]
    forwards: Forwards


def generate_video(
    model: LoadedModel, job: Job, sampling: Sampling, progress: bool = True, watcher: Watcher | None = None
) -> Made:
    """Writes the video of `job`, section by section; Ctrl-C leaves what was done as a playable file.

    Memory does not grow with the number of sections. An order that makes the last section first keeps the latents on
    disk until all are there, and decodes them then, in the order of time. For a prompt that changes they are kept too.
    """
    settings = json.dumps(_card(model, job, sampling), ensure_ascii=False)
    metadata = {"comment": settings, "title": job.prompt, "encoder_settings": f"mpgen {__version__}"}

    bar = tqdm(total=job.num_sections, unit="section", desc=job.output.name, disable=not progress)
    height, width = job.size_px
    frames, times, interrupted, forwards = 0, [], False, Forwards()

    def count(seconds: float) -> None:
        times.append(seconds)
        bar.update()
        if watcher is not None:
            watcher.made(seconds)

    told = Steps(bar, sampling.steps, watcher) if progress else watcher
    made = stream_frames(model, job, sampling, count, forwards, told)
    first = next(made)  # what cannot be made fails here, before a file is begun
    job.output.parent.mkdir(parents=True, exist_ok=True)
    job.output.with_suffix(".json").unlink(missing_ok=True)  # of the one before: it would call a half video whole
    with (
        bar,
        closing(made),
        VideoWriter(job.output, model.fps, height, width, metadata=metadata, atomic=False) as writer,
    ):
        try:
            for frame in chain([first], made):
                writer.write(frame)
                frames += 1
        except KeyboardInterrupt:
            interrupted = True
    record = _card(model, job, sampling)  # with the texts that were given on the way
    record |= {"frames": frames, "interrupted": interrupted, "seconds_per_section": [round(t, 4) for t in times]}
    if sampling.cache is not None:
        record["forwards"] = {"computed": forwards.computed, "skipped": forwards.skipped}
    if forwards.ratios:
        record["mag_ratios"] = [round(ratio, 5) for ratio in forwards.mean_ratios]
    with replacing(job.output.with_suffix(".json")) as half_written:
        half_written.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Made(job.output, frames, interrupted, tuple(times), forwards)


def stream_frames(
    model: LoadedModel,
    job: Job,
    sampling: Sampling,
    after_section: Callable[[float], None] = lambda seconds: None,
    forwards: Forwards | None = None,
    watcher: Watcher | None = None,
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames of `job`, the given ones first, each as soon as it is there.

    Args:
        model: makes them.
        job: which; its `output` is not used.
        sampling: how.
        after_section: called with the wall time of each section, in seconds, once its frames are written.
        forwards: counts what a cache skips.
        watcher: callbacks during generation, such as after every forward pass.
    """
    device = next(model.denoiser.parameters()).device
    layout = job.order.like(model.denoiser.layout).for_video(job.num_sections)
    known = _known_sections(model, job, device)
    conditionings = _conditionings(model, job, layout, len(known), device, _negative_prompt(model, sampling))
    start = _no_start(model, job, device) if job.start is None else _encode_still(model, job.start, device)
    end = None if job.end is None else _encode_still(model, job.end, device)
    # Known frames are given as they were, not as the autoencoder sees them.
    yield from () if job.start is None else job.start[None]
    yield from () if job.known is None else job.known
    with _scratch() as past:
        script = None if job.prompts is None else Script(conditionings, _store(past, "script"))
        first = conditionings[0]
        sections = rollout(
            model.denoiser, start, first, job.num_sections, sampling, known, layout, end, script, forwards,
            blank=job.start is None, watcher=watcher, other=_other_video(model, job.other, device),
        )  # fmt: skip
        clips = stream_clips(
            model.encoders.vae,
            known[-1] if known else start,
            _in_order_of_time(_timed(sections, after_section), layout, _store(past, "made"), device),
            layout.alone,
        )
        next(clips)  # the frames before the first new one, which are there already
        for clip in clips:
            yield from to_frames(clip)


def is_finished(output: Path) -> bool:
    """Whether a video is there with the JSON that is written last; what a killed process left has none."""
    try:
        record = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return output.exists() and isinstance(record, dict) and record.get("interrupted") is False


def to_clip(frames: Frames) -> Clip:
    """Frames in 0 ... 255 as a clip in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def to_frames(clip: Float[Tensor, "1 3 t h w"]) -> Frames:
    """A clip in [-1, 1] as frames in 0 ... 255."""
    return ((clip[0].permute(1, 2, 3, 0).float() + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def _scratch() -> TemporaryDirectory:
    """A folder that is gone afterwards; those that killed processes left, by the number in their names, go too."""
    ours = f"mpgen-rollout-{gethostname()}-"
    for left in Path(gettempdir()).glob(f"{ours}*-*"):
        number = left.name.removeprefix(ours).partition("-")[0]
        if number.isdecimal() and not Path(f"/proc/{number}").exists() and Path("/proc/self").exists():
            rmtree(left, ignore_errors=True)
    return TemporaryDirectory(prefix=f"{ours}{os.getpid()}-")


def _store(folder: str, name: str) -> LatentStore:
    (Path(folder) / name).mkdir()
    return LatentStore(Path(folder) / name)


def _encode_still(
    model: LoadedModel, frame: UInt8[np.ndarray, "h w 3"], device: torch.device
) -> Float[Tensor, "1 c 1 latent_h latent_w"]:
    return model.encoders.vae.encode(to_clip(frame[None]).to(device)).float()


def _no_start(model: LoadedModel, job: Job, device: torch.device) -> Still:
    """What stands for a start image where there is none, until a section takes its place.

    Raises:
        UserError: the model needs an image.
    """
    takes_image = model.denoiser.backbone.config.widths.image is not None
    if takes_image or not model.denoiser.layout.alone:
        raise UserError(
            "--prompt without a first frame: this model begins from an image; wanted --image with it, or weights whose "
            "sections stand alone, such as Helios' and Wan's (model.denoiser.layout.alone)"
        )
    vae = model.encoders.vae
    rows, columns = (side // vae.spatial_stride for side in job.size_px)
    return torch.zeros(1, vae.latent_channels, 1, rows, columns, device=device)


def _known_sections(model: LoadedModel, job: Job, device: torch.device) -> list[Latents]:
    """The whole sections at the end of the known frames, encoded alone or after the frame before them as a still."""
    if job.known is None:
        return []
    layout, frames = (
        model.denoiser.layout,
        job.known if job.start is None else np.concatenate([job.start[None], job.known]),
    )
    step, before = layout.section_pixel_frames, 0 if layout.alone else 1
    first = len(frames) - len(job.known) // step * step
    clips = (to_clip(frames[i - before : i + step]).to(device) for i in range(first, len(frames), step))
    return [model.encoders.vae.encode(clip)[:, :, before:].float() for clip in clips]


def _other_video(model: LoadedModel, other: Job | None, device: torch.device) -> OtherVideo | None:
    if other is None or other.start is None:
        return None
    conditioning = model.encoders.conditioning([other.prompt], to_clip(other.start[None]).to(device)[:, :, 0])
    sections = tuple(_known_sections(model, other, device))
    return OtherVideo(conditioning.to(device), _encode_still(model, other.start, device), sections)


def _conditionings(
    model: LoadedModel, job: Job, layout: Layout, num_known: int, device: torch.device, negative: str | None
) -> Sequence[Conditioning]:
    """The conditioning of every section to make, in the order they are made; one object for each text."""
    image = None if job.start is None else to_clip(job.start[None]).to(device)[:, :, 0]

    def encode(text: str) -> Conditioning:
        return model.encoders.conditioning([text], image, negative).to(device)

    if job.prompts is None:
        return [encode(job.prompt)] * job.num_sections
    # Frames of a given video that fill no section stand before the known ones.
    before = (0 if job.known is None else len(job.known)) - num_known * layout.section_pixel_frames

    def begins(number: int) -> float:
        place = (layout.bounds(num_known + number)[0] - 1) // layout.section
        return (before + place * layout.section_pixel_frames) / model.fps

    return Scripted(job.prompts, job.num_sections, begins, encode)


def _negative_prompt(model: LoadedModel, sampling: Sampling) -> str | None:
    """What guidance leads away from; None where it is an input of the network, or off."""
    is_input = model.denoiser.backbone.config.distilled_guidance
    return None if is_input or sampling.guidance_scale == 1 else sampling.negative_prompt


def _in_order_of_time(
    sections: Iterable[Latents], layout: Layout, store: LatentStore, device: torch.device
) -> Iterator[Latents]:
    """The sections as they are to be seen; what was made backwards waits on disk until all is there.

    When the user stops it, those that are there are still given, before the interruption goes on.
    """
    if layout.direction > 0:
        yield from sections
        return
    stopped: KeyboardInterrupt | None = None
    try:
        for section in sections:
            store.append(section)
    except KeyboardInterrupt as stop:
        stopped = stop
    yield from (section.to(device) for section in reversed(store))
    if stopped is not None:
        raise stopped


def _timed(sections: Iterable[Latents], after_section: Callable[[float], None]) -> Iterator[Latents]:
    """The sections, with the time from one to the next told."""
    began = time.perf_counter()
    for section in sections:
        yield section  # decoded and taken before control comes back
        after_section(time.perf_counter() - began)
        began = time.perf_counter()


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
        "order": next(name for name, order in ORDERS.items() if order is job.order),
        "end_image": job.end is not None,
        "prompts": None if job.prompts is None else job.prompts.plain(),
        "context_frames": job.num_given,
        "memory_of": None if job.other is None else str(job.other.output),
        "checkpoint": {"path": str(model.path), "steps": model.steps},
        "model": model.card,
    }
