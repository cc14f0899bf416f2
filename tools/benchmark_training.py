"""What a training step costs: time in interleaved rounds (medians of ratios), and memory.

    python tools/benchmark_training.py forcing      # direct / teacher, student(5) / direct; the head alone trains
    python tools/benchmark_training.py stage2       # a stage-2 step / a forward without a graph over its sections
    python tools/benchmark_training.py recompute    # all weights train: recomputing / keeping everything, 24 blocks
    python tools/benchmark_training.py swap         # LoRA, recomputing: all blocks swapped / none, 24 blocks
    python tools/benchmark_training.py real         # on a GPU: a stage-2 step of the 13B network with random weights

`--device cuda` measures the first three on a GPU in bf16. Memory is what is alive at most above weights and gradients:
counted operation by operation on a CPU, the allocator's own figure on a GPU.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.lora import LoraConfig
from mpgen.backbones.recompute import RECOMPUTE
from mpgen.backbones.swapping import swap_blocks
from mpgen.conditioning import Conditioning
from mpgen.data.dataset import VideoBatch
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.flow import LogitNormal, add_noise
from mpgen.memory.semanticpack import SemanticPackConfig
from mpgen.training.devices import peak_of
from mpgen.training.dry_run import Precision, Shape, dry_run
from mpgen.training.footprint import LiveMemory
from mpgen.training.forcing import DirectForcing, Forcing, StudentForcing, TeacherForcing
from mpgen.training.module import LongVideoModule
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import Objective
from mpgen.training.parameters import select_trainable
from mpgen.training.schedule import WarmupCosine
from mpgen.training.targets import NextSection

HEAD = ["backbone.norm_out.*", "backbone.proj_out.*"]
GIB = 2**30


def random_batch(denoiser: Denoiser, shape: Shape, sections: int, device: torch.device) -> VideoBatch:
    """Random videos of a network's sizes."""
    widths, frames = denoiser.backbone.config.widths, denoiser.layout.section * sections
    normal = partial(torch.randn, device=device)
    conditioning = Conditioning(
        normal(shape.videos, shape.text_tokens, widths.text),
        torch.ones(shape.videos, shape.text_tokens, dtype=torch.bool, device=device),
        None if widths.pooled is None else normal(shape.videos, widths.pooled),
        None if widths.image is None else normal(shape.videos, shape.image_tokens, widths.image),
        guidance_scale=10.0,
    )
    latents = normal(shape.videos, widths.latents, 1 + frames, shape.rows, shape.columns)
    uids, captions = tuple(map(str, range(shape.videos))), ("",) * shape.videos
    return VideoBatch(latents[:, :, :1], latents[:, :, 1:], conditioning, sections, uids, captions)


def small_config(doubles: int, singles: int, heads: int, lora: LoraConfig | None = None) -> DenoiserConfig:
    """The released shape with fewer and narrower blocks."""
    backbone = HunyuanConfig(
        num_attention_heads=heads, attention_head_dim=64, num_layers=doubles, num_single_layers=singles,
        text_embed_dim=256, pooled_projection_dim=64, image_proj_dim=64, rope_axes_dim=(16, 24, 24),
    )  # fmt: skip
    return DenoiserConfig(backbone, SemanticPackConfig(memorize_layers=1), lora=lora)


def made(config: DenoiserConfig, device: torch.device, train: list[str], low: bool = False) -> Denoiser:
    """A network of random weights where it is needed; with `low`, frozen ones in bf16."""
    torch.manual_seed(0)
    with torch.device("meta"):
        denoiser = Denoiser(config)
    select_trainable(denoiser, train)
    for parameter in denoiser.parameters():
        dtype = torch.float32 if parameter.requires_grad or not low else torch.bfloat16
        parameter.data = parameter.data.to(dtype)
    denoiser.to_empty(device=device)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(0, 0.02)
    return denoiser


def step(denoiser: Denoiser, batch: VideoBatch, forcing: Forcing) -> None:
    """Forward and backward of every section."""
    objective = Objective(forcing, LogitNormal(), NextSection())
    for section in objective.losses(denoiser, batch, KeyedNoise(0, 0)):
        section.loss.backward()


@torch.no_grad()
def inference(denoiser: Denoiser, batch: VideoBatch) -> None:
    """One forward of every section, as a sampler's step has it."""
    past = denoiser.begin(batch.start, batch.conditioning)
    sigma = torch.full((len(batch.start),), 0.5, device=batch.start.device)
    for clean in batch.latents.split(denoiser.layout.section, 2):
        noisy = add_noise(clean, torch.randn_like(clean), sigma)
        denoiser(noisy, sigma, past.pack(), batch.conditioning)
        past = past.after(clean)


@contextmanager
def precision(device: torch.device) -> Iterator[None]:
    """bf16 on a GPU, fp32 on a CPU."""
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        yield


def seconds(run: Callable[[], None], device: torch.device) -> float:
    """Of one call, to the end of what it asked of the device."""
    began = time.perf_counter()
    with precision(device):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def peak_bytes(run: Callable[[], None], device: torch.device) -> int:
    """Alive at most during the call, above what was alive before it; gradients must be there already."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        seconds(run, device)
        return torch.cuda.max_memory_allocated(device) - before
    with LiveMemory() as memory:
        run()
    return memory.peak


def compare(runs: dict[str, Callable[[], None]], base: str, rounds: int, device: torch.device, peaks: bool) -> None:
    """Prints medians, and the medians of the ratios to `base` in the same round."""
    for run in runs.values():
        seconds(run, device)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            times[name].append(seconds(runs[name], device))
    alive = {name: peak_bytes(run, device) for name, run in runs.items()} if peaks else {}
    for name, each in times.items():
        ratios = [a / b for a, b in zip(each, times[base], strict=True)]
        said = f"  {name:<12} {statistics.median(each) * 1000:9.1f} ms, / {base} {statistics.median(ratios):.3f}"
        if peaks:
            said += f"; peak {alive[name] / 2**20:9.1f} MiB, / {base} {alive[name] / alive[base]:.3f}"
        print(said, flush=True)


def forcings(options: argparse.Namespace, device: torch.device) -> None:
    denoiser = made(small_config(4, 8, 4), device, HEAD)
    batch = random_batch(denoiser, Shape(1, options.side, options.side, 32, 16), options.sections, device)
    choices = {"teacher": TeacherForcing(), "direct": DirectForcing(), "student(5)": StudentForcing(5)}
    runs = {name: partial(step, denoiser, batch, choice) for name, choice in choices.items()}
    for base in ("teacher", "direct"):
        compare(runs, base, options.rounds, device, peaks=False)


def stage2(options: argparse.Namespace, device: torch.device) -> None:
    denoiser = made(small_config(4, 8, 4), device, HEAD)
    batch = random_batch(denoiser, Shape(1, options.side, options.side, 32, 16), options.sections, device)
    optimizer = torch.optim.AdamW([p for p in denoiser.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def whole() -> None:
        step(denoiser, batch, DirectForcing())
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    compare(
        {"inference": partial(inference, denoiser, batch), "stage 2": whole}, "inference", options.rounds, device, True
    )


def recompute(options: argparse.Namespace, device: torch.device) -> None:
    denoiser = made(small_config(8, 16, options.heads), device, ["*"])
    batch = random_batch(denoiser, Shape(1, options.side, options.side, 32, 16), options.sections, device)

    def with_(choice: str) -> None:
        for block in denoiser.backbone.blocks:
            block.run = RECOMPUTE[choice]
        step(denoiser, batch, TeacherForcing())
        denoiser.zero_grad(set_to_none=False)

    compare({choice: partial(with_, choice) for choice in RECOMPUTE}, "none", options.rounds, device, peaks=True)


def swap(options: argparse.Namespace, device: torch.device) -> None:
    denoiser = made(
        small_config(8, 16, options.heads, LoraConfig(rank=16)), device, ["*.lora_*"], "cuda" in device.type
    )
    batch = random_batch(denoiser, Shape(1, options.side, options.side, 32, 16), options.sections, device)
    blocks = denoiser.backbone.blocks
    for block in blocks:
        block.run = RECOMPUTE["full"]
    plain = [block.run for block in blocks]
    swap_blocks(denoiser.backbone, len(blocks))
    away = [block.run for block in blocks]

    def with_(runs: list) -> None:
        for block, run in zip(blocks, runs, strict=True):
            block.run = run
        step(denoiser, batch, TeacherForcing())
        denoiser.zero_grad(set_to_none=False)

    compare(
        {"full": partial(with_, plain), "swapped": partial(with_, away)}, "full", options.rounds, device, peaks=True
    )


def real(options: argparse.Namespace, device: torch.device) -> None:
    """Peak memory, tokens a second and MFU of the released size at 480x832, plain and with compiled blocks."""
    config, shape = DenoiserConfig(HunyuanConfig(), SemanticPackConfig()), Shape(1, 60, 104, 256, 729)
    module = LongVideoModule(
        config, DirectForcing(), LogitNormal(), partial(torch.optim.AdamW, lr=1e-5, fused=True), WarmupCosine,
        train=HEAD, frozen_dtype="bfloat16",
    )  # fmt: skip
    planned = dry_run(module, shape, Precision(autocast=torch.bfloat16))
    tokens = 9 * 30 * 52 + planned.context_tokens + shape.text_tokens + shape.image_tokens
    denoiser = made(config, device, HEAD, low=True)
    batch = random_batch(denoiser, shape, options.sections, device)
    run, peak = partial(step, denoiser, batch, DirectForcing()), peak_of(device)
    for name in ("plain", "compiled"):
        if name == "compiled":
            for block in denoiser.backbone.blocks:
                block.compile()
        first = seconds(run, device)
        above = peak_bytes(run, device)
        second = statistics.median(seconds(run, device) for _ in range(options.rounds))
        rate, flops = options.sections * tokens / second, planned.flops(options.sections) / second
        print(
            f"{name}: {second:.2f} s a step (first {first:.1f} s), {rate:,.0f} tokens/s, "
            f"{flops / 1e12:.0f} TFLOP/s" + (f", MFU {flops / peak:.3f}" if peak else "") + f"; peak memory "
            f"{torch.cuda.max_memory_allocated(device) / GIB:.1f} GiB, above weights {above / GIB:.2f} GiB, "
            f"planned {planned.activation_bytes / GIB:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    chosen = {"forcing": forcings, "stage2": stage2, "recompute": recompute, "swap": swap, "real": real}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=chosen)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")
    parser.add_argument("--sections", type=int, default=3, help="of a video")
    parser.add_argument("--side", type=int, default=16, help="rows and columns of latents, of the small networks")
    parser.add_argument("--heads", type=int, default=8, help="64 wide each, of the network that recomputes")
    given = parser.parse_args()
    where = torch.device("cuda" if given.what == "real" else given.device)
    print(f"{given.what}: {where}, {torch.get_num_threads()} threads, {given.sections} sections, {given.rounds} rounds")
    chosen[given.what](given, where)
