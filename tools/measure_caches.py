"""What the caches of `mpgen generate --cache` save and cost: forwards skipped, and PSNR to the video without a cache.

    python tools/measure_caches.py CHECKPOINT --steps 10 --sections 4 --scenes bounce occlude steady

First scenes of the built-in world. PSNR is also given for the first section alone: later ones begin from other pasts.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mpgen import Denoising, MemoryPackPipeline
from mpgen.generation.caches import Caching, Forwards
from mpgen.generation.pipeline import stream_frames
from mpgen.generation.python import Video
from mpgen.text_table import aligned
from mpgen.world.families import sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings

FIRST_BLOCK, MAG = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5), (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)

Frames = UInt8[np.ndarray, "t h w 3"]


def make(videos: list[Video], cache: Caching | None) -> tuple[list[Frames], Forwards]:
    """The videos with a cache, and what it skipped."""
    forwards, made = Forwards(), []
    for video in videos:
        sampling = replace(video.sampling, cache=cache)
        made.append(np.stack(list(stream_frames(video.model, video.job, sampling, forwards=forwards))))
    return made, forwards


def psnr(made: list[Frames], wanted: list[Frames], frames: slice) -> float:
    """In dB, over all videos together."""
    error = [np.square(one[frames].astype(float) - other[frames]) for one, other in zip(made, wanted, strict=True)]
    return float(10 * np.log10(255**2 / max(float(np.mean(error)), 1e-12)))


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=10, help="forwards a section (default 10)")
    parser.add_argument("--sections", type=int, default=4, help="of each video (default 4)")
    parser.add_argument("--scenes", nargs="+", default=["bounce", "occlude", "steady"], help="families of scenes")
    options = parser.parse_args()

    pipeline = MemoryPackPipeline.from_pretrained(options.checkpoint)
    model = pipeline.model
    settings = WorldSettings(size_px=model.height_px, fps=round(model.fps))
    section = model.denoiser.layout.section_pixel_frames
    videos = []
    for family in options.scenes:
        scene = sample_scene(settings, family, 61, (0, 2))
        seconds = options.sections * section / model.fps
        start = render_scene(scene, model.height_px)[0]
        videos.append(pipeline(start, scene.caption, seconds, denoising=Denoising(steps=options.steps)))
    wanted, measured = make(videos, Caching("mag_calibrate"))
    print(f"mag_ratios: {[round(ratio, 4) for ratio in measured.mean_ratios]}")
    rows = []
    for name, thresholds in (("first_block", FIRST_BLOCK), ("mag", MAG)):
        for threshold in thresholds:
            made, forwards = make(videos, Caching(name, threshold, tuple(measured.mean_ratios)))
            share = forwards.skipped / (forwards.skipped + forwards.computed)
            first, whole = psnr(made, wanted, slice(1, 1 + section)), psnr(made, wanted, slice(1, None))
            rows.append([name, f"{threshold:g}", f"{share:.0%}", f"{first:.1f} dB", f"{whole:.1f} dB"])
    print(aligned([["cache", "threshold", "forwards skipped", "PSNR, first section", "PSNR, all"], *rows]))


if __name__ == "__main__":
    main()
