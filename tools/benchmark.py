"""Ratios that tools/README.md states, measured in one run on this machine.

    python tools/benchmark.py forcing            # a Direct Forcing step against a Teacher and a Student Forcing step
    python tools/benchmark.py length             # time and memory of 100 generated sections

Steps are interleaved in pairs and medians are given, so that a machine whose speed drifts does not tilt the result.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from mpgen.checkpoints import LoadedModel, rebuild
from mpgen.conditioning import Conditioning
from mpgen.data.dataset import VideoBatch
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.tiny import TinyEncoders, TinyVAE
from mpgen.flow import LogitNormal
from mpgen.generation.pipeline import Job, generate_video
from mpgen.generation.rollout import Sampling
from mpgen.sampling import euler
from mpgen.tensors import Clip, Latents
from mpgen.training.forcing import DirectForcing, Forcing, StudentForcing, TeacherForcing
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import Objective
from mpgen.training.targets import NextSection

QUICKSTART = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def quickstart_denoiser() -> Denoiser:
    """The quickstart's network, with its initial weights."""
    plain = yaml.safe_load(QUICKSTART.read_text())["model"]["denoiser"]
    torch.manual_seed(0)
    return Denoiser(rebuild(DenoiserConfig, plain))


def random_batch(denoiser: Denoiser, videos: int, sections: int) -> VideoBatch:
    """Random latents and conditioning of the quickstart's shapes."""
    widths, frames = denoiser.backbone.config.widths, denoiser.layout.section * sections
    conditioning = Conditioning(
        torch.randn(videos, 8, widths.text),
        torch.ones(videos, 8, dtype=torch.bool),
        torch.randn(videos, widths.pooled),
        torch.randn(videos, 4, widths.image),
    )
    start, latents = torch.randn(videos, 16, 1, 8, 8), torch.randn(videos, 16, frames, 8, 8)
    return VideoBatch(start, latents, conditioning, sections, tuple(map(str, range(videos))), ("",) * videos)


def forcing(pairs: int, videos: int, sections: int) -> None:
    """Wall time and forwards of one training step, by forcing."""
    denoiser = quickstart_denoiser()
    batch = random_batch(denoiser, videos, sections)
    forwards = 0

    def count(*_: object) -> None:
        nonlocal forwards
        forwards += 1

    denoiser.backbone.blocks[-1].register_forward_hook(count)

    def step(choice: Forcing, number: int) -> float:
        began = time.perf_counter()
        objective = Objective(choice, LogitNormal(), NextSection())
        for section in objective.losses(denoiser, batch, KeyedNoise(0, number)):
            section.loss.backward()
        denoiser.zero_grad()
        return time.perf_counter() - began

    choices = {"teacher": TeacherForcing(), "direct": DirectForcing(), "student(5)": StudentForcing(5)}
    for choice in choices.values():
        step(choice, 0)
    seconds: dict[str, list[float]] = {name: [] for name in choices}
    counts = {}
    for pair in range(pairs):
        for name in list(choices) if pair % 2 else list(choices)[::-1]:
            forwards = 0
            seconds[name].append(step(choices[name], pair))
            counts[name] = forwards
    print(f"{videos} videos of {sections} sections, {torch.get_num_threads()} threads, {pairs} interleaved rounds")
    for name, times in seconds.items():
        print(f"  {name:<11} {statistics.median(times) * 1000:8.1f} ms a step, {counts[name]} forwards")
    for a, b in (("direct", "teacher"), ("student(5)", "direct")):
        ratios = [x / y for x, y in zip(seconds[a], seconds[b], strict=True)]
        print(f"  {a} / {b}: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


class Watched(TinyVAE):
    """Notes the process's resident memory every time a section is decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.resident_mib: list[float] = []

    def decode(self, latents: Latents, starts_with_still: bool = True) -> Clip:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.resident_mib.append(pages * resource.getpagesize() / 2**20)
        return super().decode(latents, starts_with_still)


def length(sections: int, steps: int) -> None:
    """Time a section, and memory, while one long video is generated, decoded and written."""
    encoders = TinyEncoders()
    encoders.vae = Watched()
    denoiser = quickstart_denoiser().eval().requires_grad_(False)
    model = LoadedModel(denoiser, encoders, 1.0, 64, 64, 24.0, Path("random weights"), 0, {})
    sampling = Sampling(euler, steps, 1.0, 1.0, 0)
    with tempfile.TemporaryDirectory() as folder:
        start = np.full((64, 64, 3), 128, np.uint8)
        made = generate_video(model, Job("a red disc", start, None, sections, Path(folder) / "long.mp4"), sampling)
    seconds, resident = made.seconds_per_section, encoders.vae.resident_mib[1:]
    half = sections // 2
    first, last = max(resident[:half]), max(resident[half:])
    early, late = statistics.median(seconds[:10]), statistics.median(seconds[-10:])
    print(f"{sections} sections of {steps} steps, {made.frames} frames")
    print(f"  peak memory: first half {first:.1f} MiB, second half {last:.1f} MiB, ratio {last / first:.4f}")
    print(f"  a section: first ten {early * 1000:.1f} ms, last ten {late * 1000:.1f} ms, ratio {late / early:.3f}")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=["forcing", "length"])
    options.add_argument("--rounds", type=int, default=15, help="interleaved rounds (forcing)")
    options.add_argument("--videos", type=int, default=8, help="videos in a step (forcing)")
    options.add_argument("--sections", type=int, default=0, help="sections: 3 for forcing, 100 for length")
    options.add_argument("--steps", type=int, default=10, help="forwards a section (length)")
    chosen = options.parse_args()
    if chosen.what == "forcing":
        forcing(chosen.rounds, chosen.videos, chosen.sections or 3)
    else:
        length(chosen.sections or 100, chosen.steps)
