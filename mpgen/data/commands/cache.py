"""`mpgen data cache`: encode what the manifest lists, on one machine or many."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from mpgen import caveats
from mpgen.atomic import write_text
from mpgen.data.build import TIMEOUT_SECONDS, build_cache
from mpgen.data.cache import CacheDirectory, CacheIndex, CacheSettings
from mpgen.data.manifest import read_training_records
from mpgen.data.parts import Part
from mpgen.data.sizes import read_sizes
from mpgen.encoders.base import Encoders
from mpgen.encoders.hunyuan import HunyuanEncoders
from mpgen.encoders.open_clip import OpenClipEncoders
from mpgen.encoders.tiny import TinyEncoders
from mpgen.encoders.wan import WanEncoders
from mpgen.errors import UserError
from mpgen.machine import check_processes

SMALL = CacheSettings(64, 64, 24.0, max_sections=8, section_latent_frames=3)  # those of configs/scratch.yaml
RELEASED = CacheSettings(480, 832, 24.0, max_sections=40, section_latent_frames=9, dtype="bfloat16")


@dataclass(frozen=True)
class Choice:
    """What a short name of encoders stands for.

    Args:
        encoders: their class.
        settings: that they are used with.
        weights: which argument of the class takes --weights, if one does.
        needs_weights: whether it must be given.
    """

    encoders: type[Encoders]
    settings: CacheSettings
    weights: str | None = None
    needs_weights: bool = False


SHORT_NAMES = {
    "tiny": Choice(TinyEncoders, SMALL),
    "open_clip": Choice(OpenClipEncoders, SMALL, "pretrained"),
    "hunyuan": Choice(HunyuanEncoders, RELEASED, "folder", needs_weights=True),
    "wan": Choice(WanEncoders, RELEASED, "folder", needs_weights=True),
}
ShortName = Literal[tuple(SHORT_NAMES)]


def cache(
    data: Path,
    /,
    encoders: ShortName | Encoders = "tiny",
    weights: Path | None = None,
    height_px: int | None = None,
    width_px: int | None = None,
    fps: float | int | None = None,
    section_latent_frames: int | None = None,
    max_sections: int | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    sections_alone: bool | None = None,
    part: str = "1/1",
    num_workers: int = 2,
    timeout_seconds: float | int = TIMEOUT_SECONDS,
    retry_failed: bool = False,
) -> None:
    """Encode the videos and captions of DATA/manifest.csv into DATA/cache; the same command again goes on.

    Sizes that `mpgen data filter` was given hold here too, unless others are given.
    A video that cannot be used is a row in rejects.csv and never ends the run. On many machines that share DATA, give
    each its own part.

    Example: mpgen data cache DATA --encoders hunyuan --weights weights/HunyuanVideo --part 1/8

    Args:
        data: the folder with manifest.csv, which `mpgen data filter` or `mpgen world` wrote.
        encoders: tiny, hunyuan, wan or open_clip; or a class and its arguments: --encoders.class_path, --encoders.NAME.
        weights: with hunyuan or wan, the folder of the released pipeline; with open_clip, a file with its weights.
        height_px: frames are scaled to cover this size and cropped; 480 for hunyuan and wan, else 64.
        width_px: likewise; 832 for hunyuan and wan, else 64.
        fps: frames per second; other rates are resampled; 24 if not given.
        section_latent_frames: latent frames of a section, those of the model's layout; 9 for hunyuan and wan, else 3.
        max_sections: longer videos are cut here; 40 for hunyuan and wan (one minute), else 8.
        dtype: how it is stored; bfloat16 for hunyuan and wan, else float32.
        sections_alone: encode every section by itself, as for Helios (the layout's `alone`).
        part: this machine's share of the videos and captions, such as 1/8 to 8/8.
        num_workers: processes that decode while this one encodes; each holds a whole video (1.7 GB a minute of 480p).
        timeout_seconds: a video that takes longer to decode is given up.
        retry_failed: try again the videos that failed before.
    """
    share = Part.parse(part)
    check_processes(num_workers, "--num_workers")
    if timeout_seconds <= 0:
        raise UserError(f"--timeout_seconds {timeout_seconds:g}: wanted more than 0")
    chosen, usual = _chosen(encoders, weights)
    given = {
        "height_px": height_px,
        "width_px": width_px,
        "fps": None if fps is None else float(fps),
        "section_latent_frames": section_latent_frames,
        "max_sections": max_sections,
        "dtype": dtype,
        "sections_alone": sections_alone,
    }
    kept = {name: value for name, value in read_sizes(data).items() if given[name] is None}
    settings = replace(usual, **kept, **{name: value for name, value in given.items() if value is not None})
    _refuse_senseless(settings, chosen)
    chosen.check()
    records, bad_rows = read_training_records(data / "manifest.csv")
    directory = CacheDirectory.of(data / "cache", settings, chosen.fingerprint)
    directory.begin(settings, chosen.fingerprint, chosen.caveat)
    caveats.say([chosen.caveat] if chosen.caveat else [])
    print(f"{directory.path}: {settings.summary}, {type(chosen).__name__}")
    if kept:
        print(f"  as mpgen data filter was told: {', '.join(f'{name} {value}' for name, value in kept.items())}")
    for line in directory.differences():
        print(f"  {line}")
    began = time.monotonic()
    index = build_cache(
        records,
        chosen,
        settings,
        data / "cache",
        manifest_rejects=bad_rows,
        part=share,
        num_workers=num_workers,
        timeout_seconds=timeout_seconds,
        retry_failed=retry_failed,
    )
    _write_overlay(data, chosen, settings)
    _say(data, index, settings, time.monotonic() - began)


def _chosen(encoders: str | Encoders, weights: Path | None) -> tuple[Encoders, CacheSettings]:
    """The encoders, and the settings that they are usually used with."""
    if isinstance(encoders, Encoders):
        if weights is not None:
            raise UserError(f"--weights {weights}: wanted as an argument of the class, such as --encoders.folder")
        known = [choice.settings for choice in SHORT_NAMES.values() if choice.encoders is type(encoders)]
        return encoders, known[0] if known else SMALL
    choice = SHORT_NAMES[encoders]
    if weights is not None and choice.weights is None:
        raise UserError(f"--weights {weights}: the {encoders} encoders have their own; wanted none")
    if weights is None and choice.needs_weights:
        raise UserError(
            f"--encoders {encoders}: wanted --weights, the released pipeline's folder (see configs/README.md)"
        )
    return choice.encoders(**({} if weights is None else {choice.weights: weights})), choice.settings


def _refuse_senseless(settings: CacheSettings, encoders: Encoders) -> None:
    side = encoders.vae.spatial_stride
    if settings.height_px % side or settings.width_px % side:
        raise UserError(f"--height_px {settings.height_px} --width_px {settings.width_px}: wanted multiples of {side}")


def _write_overlay(data: Path, encoders: Encoders, settings: CacheSettings) -> None:
    """The keys of a training config that must be as they were here, or training would make another cache."""
    name = f"{type(encoders).__module__}.{type(encoders).__qualname__}"
    keys = {
        "manifest": str(data / "manifest.csv"),
        "cache": str(data / "cache"),
        "encoders": {"class_path": name, "init_args": encoders.init_args},
        "height_px": settings.height_px,
        "width_px": settings.width_px,
        "fps": settings.fps,
        "max_sections": settings.max_sections,
        "dtype": settings.dtype,
        "world": None,
    }
    head = (
        "# What `mpgen data cache` made last, for training; lay it over your config, from the same folder:\n"
        f"#   mpgen fit --config CONFIG --config {data / 'training.yaml'}\n"
        f"# The model's denoiser.layout.section must be {settings.section_latent_frames}, and its layout.alone "
        f"{str(settings.sections_alone).lower()}, or another cache is made.\n"
    )
    write_text(data / "training.yaml", head + yaml.safe_dump({"data": keys}, sort_keys=False))


def _say(data: Path, index: CacheIndex, settings: CacheSettings, seconds: float) -> None:
    sections = sum(entry.num_sections for entry in index.entries)
    hours = settings.hours(sections, len(index.entries))
    share = "" if index.part.count == 1 else f" of part {index.part.number}/{index.part.count}"
    stale = f" ({index.stale} for the second time, because they had changed)" if index.stale else ""
    print(
        f"{len(index.entries)} videos{share}, {sections} sections, {hours:.2f} h; "
        f"encoded now: {index.encoded}{stale} in {seconds:.0f} s"
    )
    if index.sourceless:
        print(f"of {index.sourceless} the source is gone; what was cached of them is used")
    if index.rejected:
        print(f"rejected: {index.rejected}, see {index.rejects_file}; --retry_failed true tries them again")
    print(f"settings for training: {data / 'training.yaml'}")
    print(
        f"next:\n  mpgen data check {data}\n  mpgen data plan {data} --world_size 32 --batch_size 1\n"
        f"  mpgen fit --config CONFIG --config {data / 'training.yaml'}"
    )
