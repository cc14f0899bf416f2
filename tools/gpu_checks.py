"""The checks of `check_gpu.py`: each a function of a bench, with the promise that it puts to the test.

A check returns a finding, says with `NotTried` why it could not be made here, or raises, which counts as not held.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from benchmark_training import HEAD, made, peak_bytes, random_batch
from measured_step import measured_step
from torch import Tensor

from mpgen.attention import BACKENDS, using
from mpgen.backbones.base import BackboneConfig
from mpgen.backbones.eight_bit import FORMATS, count_bytes, store_blocks
from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.lora import LoraConfig
from mpgen.backbones.wan import WanConfig
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.flow import LogitNormal
from mpgen.generation.caches import Caching, Forwards
from mpgen.generation.offload import offload_blocks
from mpgen.generation.rollout import Sampling, rollout
from mpgen.memory.semanticpack import SemanticPackConfig
from mpgen.sampling import euler
from mpgen.sections import Forward
from mpgen.tensors import Latents
from mpgen.training.devices import peak_of
from mpgen.training.dry_run import Shape
from mpgen.training.forcing import DirectForcing, Forcing, TeacherForcing
from mpgen.training.module import LongVideoModule
from mpgen.training.optimizers import AdamW8bit
from mpgen.training.schedule import WarmupCosine

ROOT = Path(__file__).parents[1]
SMALL_GPU = 40e9  # bytes; below it fewer blocks
FP32, PLANNER = 1e-4, 0.15
EIGHT_BIT, APPROXIMATE = 0.1, 0.1  # relative errors that 8 bits may make


class NotTried(Exception):
    """Why a check cannot be made here."""


@dataclass(frozen=True)
class Finding:
    """What a check saw.

    Args:
        held: whether the promise held.
        said: in one line.
        figures: the numbers behind it.
    """

    held: bool
    said: str
    figures: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Where the checks are made, and in which sizes: of the released widths, or tiny ones.

    Args:
        device: a GPU, or a CPU for tiny sizes.
        tiny: small enough for a CPU.
    """

    device: torch.device
    tiny: bool

    @cached_property
    def depths(self) -> tuple[int, int]:
        """Blocks of two streams, and of one."""
        if self.tiny or torch.cuda.get_device_properties(self.device).total_memory < SMALL_GPU:
            return 1, 2
        return 2, 4

    @property
    def grid(self) -> tuple[int, int]:
        return (2, 3) if self.tiny else (30, 52)

    @property
    def shape(self) -> Shape:
        return Shape(1, 2 * self.grid[0], 2 * self.grid[1], *((8, 5) if self.tiny else (256, 729)))

    @property
    def layout(self) -> Forward:
        return Forward(section=3 if self.tiny else 9)

    def framepack(self) -> HunyuanConfig:
        doubles, singles = self.depths
        sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "rope_axes_dim": (4, 6, 6)} if self.tiny else {}
        return HunyuanConfig(num_layers=doubles, num_single_layers=singles, **sizes)

    def helios(self) -> WanConfig:
        if self.tiny:
            return WanConfig(num_attention_heads=2, attention_head_dim=16, num_layers=2, ffn_dim=64, rope_dim=(4, 6, 6))
        return WanConfig(
            num_attention_heads=40, attention_head_dim=128, num_layers=sum(self.depths), ffn_dim=13824,
            rope_dim=(44, 42, 42),
        )  # fmt: skip

    def pair(self, config: BackboneConfig) -> tuple[torch.nn.Module, Denoiser, "Case"]:
        """diffusers' class, ours with the same weights, and inputs, in fp32."""
        from benchmark_transformer import build, moved
        from compare_with_diffusers import make_case

        torch.backends.cudnn.allow_tf32 = False
        released, denoiser = build(config, self.layout.section, self.device, torch.float32)
        shape = self.shape
        case = make_case(
            denoiser, self.grid, self.layout.section, 1, shape.text_tokens, 3, 0,
            valid=max(1, shape.text_tokens // 4), image=shape.image_tokens,
        )  # fmt: skip
        return released, denoiser, moved(case, self.device, torch.float32)

    def module(self, train: list[str], forcing: Forcing, lora: LoraConfig | None = None, **options) -> LongVideoModule:
        patch = (1, 4, 4) if self.tiny else (3, 8, 8)
        memory = SemanticPackConfig(memorize_layers=1 if self.tiny else 2, window_patch=patch)
        config = DenoiserConfig(self.framepack(), memory, self.layout, lora=lora)
        optimizer = options.pop("optimizer", partial(torch.optim.AdamW, lr=1e-5, fused=True))
        return LongVideoModule(config, forcing, LogitNormal(), optimizer, WarmupCosine, train=train, **options)

    def seconds(self, run: Callable[[], object], times: int = 3) -> float:
        """The median of a few calls, after one that does not count."""
        from benchmark_transformer import timed

        run()
        return statistics.median(timed(run, self.device)[0] for _ in range(times))


def relative(found: Tensor, wanted: Tensor) -> float:
    """The RMS of a difference over that of what was wanted."""
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


@torch.no_grad()
def against_diffusers(bench: Bench, config: BackboneConfig) -> Finding:
    """fp32 against fp32; then bf16 of both against fp32, as they stand and with compiled blocks."""
    from benchmark_transformer import moved
    from compare_with_diffusers import ours, theirs

    released, denoiser, case = bench.pair(config)
    layout = denoiser.layout
    truth = theirs(released, case, layout)
    figures: dict[str, object] = {"fp32": relative(ours(denoiser, case), truth)}
    released.to(torch.bfloat16), denoiser.to(torch.bfloat16)
    low = moved(case, bench.device, torch.bfloat16)
    their_run, our_run = partial(theirs, released, low, layout), partial(ours, denoiser, low)
    for how in ("eager", "compiled"):
        if how == "compiled":
            compiler = "eager" if bench.tiny else "inductor"
            for block in denoiser.backbone.blocks:
                block.compile(backend=compiler)
            for name in ("transformer_blocks", "single_transformer_blocks", "blocks"):
                for block in getattr(released, name, ()):
                    block.compile(backend=compiler)
        figures[f"bf16 {how}, diffusers"] = relative(their_run(), truth)
        figures[f"bf16 {how}, mpgen"] = relative(our_run(), truth)
        their_time, our_time = bench.seconds(their_run), bench.seconds(our_run)
        figures[f"seconds {how}, diffusers"], figures[f"seconds {how}, mpgen"] = their_time, our_time
        figures[f"times as fast {how}"] = their_time / our_time
    held = figures["fp32"] < FP32 and all(
        figures[f"bf16 {how}, mpgen"] < 1.5 * figures[f"bf16 {how}, diffusers"] + 1e-3 for how in ("eager", "compiled")
    )
    return Finding(
        held,
        f"relative error {figures['fp32']:.1e} in fp32; in bf16 {figures['bf16 eager, mpgen']:.1e} and diffusers' "
        f"{figures['bf16 eager, diffusers']:.1e}; {figures['times as fast eager']:.2f} times as fast, compiled "
        f"{figures['times as fast compiled']:.2f}",
        figures,
    )


@torch.no_grad()
def attention(bench: Bench) -> Finding:
    """A forward with each backend that is installed and computes here."""
    from benchmark_transformer import moved
    from compare_with_diffusers import ours

    _, denoiser, case = bench.pair(bench.framepack())
    truth = ours(denoiser, case)
    dtype = torch.float32 if bench.device.type == "cpu" else torch.bfloat16
    denoiser, case = denoiser.to(dtype), moved(case, bench.device, dtype)
    figures: dict[str, object] = {}
    bad = []
    for name, backend in BACKENDS.items():
        if not backend.is_here or not backend.computes(bench.device, dtype):
            figures[name] = "not installed" if not backend.is_here else "not for this device"
            continue
        try:
            with using(name):
                error = relative(ours(denoiser, case), truth)
                figures[name] = {"error": error, "seconds": bench.seconds(lambda: ours(denoiser, case))}
            if not error < (APPROXIMATE if name == "sage" else 0.03):
                bad.append(name)
        except Exception as failure:  # the next backend may be a good one
            figures[name] = f"{type(failure).__name__}: {failure}"[:300]
            bad.append(name)
    tried = [name for name in figures if isinstance(figures[name], dict) or name in bad]
    return Finding(not bad, f"tried {', '.join(tried)}" + (f"; wrong: {', '.join(bad)}" if bad else ""), figures)


def training(bench: Bench, module: LongVideoModule) -> Finding:
    """Seconds, MFU and peak of a step, and the planner's figure for the same module."""
    step = measured_step(module, bench.shape, bench.device)
    peak = peak_of(bench.device)
    figures: dict[str, object] = {
        "seconds": step.seconds, "measured GiB": step.peak_bytes / 2**30, "planned GiB": step.planned_bytes / 2**30,
        "measured / planned": step.ratio, "TFLOP/s": step.flops / step.seconds / 1e12,
        "MFU": step.flops / step.seconds / peak if peak else "peak of this device not known",
        "losses": step.losses,
    }  # fmt: skip
    mfu = f"{figures['MFU']:.2f}" if peak else "not known"
    said = f"{step.seconds:.2f} s, MFU {mfu}, peak {step.ratio:.3f} of the planned {figures['planned GiB']:.2f} GiB"
    finite = all(loss == loss and loss < 1e4 for loss in step.losses)
    return Finding(abs(step.ratio - 1) <= PLANNER and finite, said, figures)


def stage_2(bench: Bench) -> Finding:
    return training(bench, bench.module(HEAD, DirectForcing(), frozen_dtype="bfloat16"))


def stage_1(bench: Bench) -> Finding:
    return training(bench, bench.module(["*"], TeacherForcing(), recompute="full"))


def lora(bench: Bench) -> Finding:
    """With blocks in 8 bits that wait in host memory, and AdamW in 8 bits where it is installed."""
    options = {"frozen_dtype": "int8", "recompute": "full", "swap_blocks": sum(bench.depths)}
    if find_spec("bitsandbytes"):
        options["optimizer"] = partial(AdamW8bit, lr=1e-4)
    return training(bench, bench.module(["*.lora_*", "memory.*"], TeacherForcing(), LoraConfig(rank=32), **options))


def forcing(bench: Bench) -> Finding:
    """A Direct Forcing step against a teacher forcing step."""
    found = {
        name: measured_step(bench.module(HEAD, kind, frozen_dtype="bfloat16"), bench.shape, bench.device, steps=3)
        for name, kind in (("teacher", TeacherForcing()), ("direct", DirectForcing()))
    }
    ratio, same = found["direct"].seconds / found["teacher"].seconds, len({step.flops for step in found.values()}) == 1
    held = same and (bench.tiny or ratio < 1.05)
    return Finding(held, f"{ratio:.3f} of the time, {'as' if same else 'not as'} many operations", {"ratio": ratio})


def _denoiser(bench: Bench, dtype: torch.dtype = torch.bfloat16) -> Denoiser:
    """Random weights everywhere: a new network's blocks are the identity, which would prove nothing."""
    config = bench.module(HEAD, DirectForcing()).denoiser_config
    return made(config, bench.device, HEAD).to(dtype).eval().requires_grad_(False)


@torch.no_grad()
def _sections(
    bench: Bench, denoiser: Denoiser, count: int = 1, steps: int = 4, cache: Caching | None = None
) -> tuple[list[Latents], Forwards]:
    torch.manual_seed(1)
    batch = random_batch(denoiser, bench.shape, 1, bench.device)
    forwards, sampling = Forwards(), Sampling(euler, steps, 1.0, 10.0, 0, cache=cache)
    found = rollout(denoiser, batch.start, batch.conditioning, count, sampling, forwards=forwards)
    return list(found), forwards


@torch.no_grad()
def _velocity(bench: Bench, denoiser: Denoiser) -> Latents:
    """Of a second section in the middle of its denoising."""
    torch.manual_seed(1)
    dtype = next(denoiser.parameters()).dtype
    batch = random_batch(denoiser, bench.shape, 2, bench.device)
    conditioning, frames = batch.conditioning.to(dtype=dtype), denoiser.layout.section
    past = denoiser.begin(batch.start.to(dtype), conditioning).after(batch.latents[:, :, :frames].to(dtype))
    sigma = torch.full((1,), 0.5, device=bench.device)
    return denoiser(batch.latents[:, :, frames:].to(dtype), sigma, past.pack(), conditioning)


def offload(bench: Bench) -> Finding:
    """Peak and numbers of a section with its blocks in host memory, against all on the device."""
    whole = _denoiser(bench)
    blocks = [count_bytes(block) for block in whole.backbone.blocks]
    wanted, peaks = _sections(bench, whole)[0][0].cpu(), {}
    peaks["whole"] = count_bytes(whole) + peak_bytes(lambda: _sections(bench, whole), bench.device)
    away = _denoiser(bench).cpu()
    whole.cpu()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    offload_blocks(away, bench.device)
    before = torch.cuda.memory_allocated(bench.device) if bench.device.type == "cuda" else 0
    found = _sections(bench, away)[0][0].cpu()
    peaks["offloaded"] = before + peak_bytes(lambda: _sections(bench, away), bench.device)
    equal = torch.equal(found, wanted)
    if bench.device.type == "cpu":
        return Finding(equal, f"numbers {'equal' if equal else 'differ'}; the peak is the host's own", peaks)
    most = peaks["whole"] - sum(blocks) + 3 * max(blocks)
    said = f"{peaks['offloaded'] / 2**30:.2f} GiB instead of {peaks['whole'] / 2**30:.2f}, numbers "
    return Finding(equal and peaks["offloaded"] <= 1.05 * most, said + ("equal" if equal else "differ"), peaks)


def eight_bit(bench: Bench) -> Finding:
    """Error, time and bytes of a forward with blocks in 8 bits."""
    plain = _denoiser(bench)
    wanted, seconds = _velocity(bench, plain), bench.seconds(lambda: _velocity(bench, plain))
    figures: dict[str, object] = {}
    for kind in FORMATS:
        low = _denoiser(bench)
        store_blocks(low.backbone, kind)
        error = relative(_velocity(bench, low), wanted)
        taken = bench.seconds(lambda low=low: _velocity(bench, low))
        figures[kind] = {"error": error, "time": taken / seconds, "bytes": count_bytes(low) / count_bytes(plain)}
    said = "; ".join(f"{k}: error {f['error']:.1e}, {f['time']:.2f} of the time" for k, f in figures.items())
    return Finding(all(f["error"] < EIGHT_BIT for f in figures.values()), said, figures)


def caches(bench: Bench) -> Finding:
    """A cache that skips nothing changes nothing; one that skips much takes so much less time."""
    denoiser, steps = _denoiser(bench), 10

    def run(cache: Caching | None = None) -> tuple[list[Latents], Forwards]:
        return _sections(bench, denoiser, steps=steps, cache=cache)

    plain, seconds = run()[0][0], bench.seconds(run, 1)
    same = relative(run(Caching("first_block", 0.0))[0][0], plain)
    ratios = tuple(run(Caching("mag_calibrate"))[1].mean_ratios)
    figures: dict[str, object] = {"first_block at 0": same}
    slow = []
    for cache in (Caching("first_block", 9.0), Caching("mag", 9.0, ratios)):
        forwards = run(cache)[1]
        share, taken = forwards.computed / steps, bench.seconds(lambda cache=cache: run(cache), 1) / seconds
        figures[cache.name] = {"computed": share, "time": taken}
        if not bench.tiny and taken > share + 0.3:
            slow.append(cache.name)
    said = f"skipping nothing changes {same:.1e}; " + "; ".join(
        f"{name}: {figures[name]['computed']:.0%} computed in {figures[name]['time']:.0%} of the time"
        for name in ("first_block", "mag")
    )
    return Finding(same < 1e-2 and not slow, said, figures)


def length(bench: Bench) -> Finding:
    """Memory and time of late sections against early ones."""
    denoiser, number = _denoiser(bench), 8 if bench.tiny else 24
    _sections(bench, denoiser, 4, steps=1)
    peaks = {
        count: peak_bytes(lambda count=count: _sections(bench, denoiser, count, steps=1), bench.device)
        for count in (number // 2, number)
    }
    # What is kept for the caller are the sections themselves.
    layout, shape = denoiser.layout, bench.shape
    own = (number // 2) * layout.section * 16 * shape.rows * shape.columns * 4
    ratio = (peaks[number] - own) / peaks[number // 2]
    half, whole = (bench.seconds(lambda n=n: _sections(bench, denoiser, n, steps=1), 1) for n in (number // 2, number))
    figures = {"peak of twice as many": ratio, "time of twice as many": whole / half, "sections": number}
    held = ratio < 1.05 and (bench.tiny or whole / half < 2.2)
    return Finding(
        held, f"{number} sections: {ratio:.3f} of the peak and {whole / half:.2f} of the time of half", figures
    )


def determinism(bench: Bench) -> Finding:
    """The same seed twice: sections, and losses of two steps."""
    denoiser = _denoiser(bench)
    first, second = (_sections(bench, denoiser, 2)[0] for _ in range(2))
    videos = all(map(torch.equal, first, second))
    runs = [
        measured_step(bench.module(["*"], DirectForcing(), recompute="full"), bench.shape, bench.device).losses
        for _ in range(2)
    ]
    gap = max(abs(a - b) for a, b in zip(*runs, strict=True))
    said = f"sections {'equal' if videos else 'differ'}; losses of two steps differ by {gap:.1e}"
    return Finding(videos and gap < 1e-3, said, {"sections equal": videos, "largest difference of losses": gap})


def nccl(bench: Bench) -> Finding:
    """An all-reduce over all GPUs of this machine."""
    count = torch.cuda.device_count() if bench.device.type == "cuda" else 0
    if count < 2:
        raise NotTried(f"{count} GPU(s) here, wanted two")
    torch.multiprocessing.spawn(_all_reduce, (count,), nprocs=count)
    return Finding(True, f"{count} GPUs give the sum of all", {"gpus": count})


def _all_reduce(rank: int, count: int) -> None:
    device = torch.device("cuda", rank)
    store = dist.TCPStore("127.0.0.1", 29531, count, rank == 0)
    dist.init_process_group("nccl", store=store, rank=rank, world_size=count, device_id=device)
    number = torch.full((2**24,), float(rank + 1), device=device)
    dist.all_reduce(number)
    assert bool((number == count * (count + 1) / 2).all()), f"rank {rank}: {number[0]}"
    dist.destroy_process_group()


def gpu_tests(bench: Bench) -> Finding:
    """Tests that need a GPU."""
    if bench.device.type != "cuda":
        raise NotTried("no GPU here")
    if not find_spec("pytest"):
        raise NotTried('pytest is not installed: wanted pip install -e ".[test]"')
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = (ended.stdout.strip().splitlines() or ["nothing"])[-1]
    return Finding(ended.returncode == 0, last.strip("= "), {"output": ended.stdout[-2000:]})


@dataclass(frozen=True)
class Check:
    """One of them.

    Args:
        promise: what README and configs/README.md say.
        run: what puts it to the test.
    """

    promise: str
    run: Callable[[Bench], Finding]


CHECKS: dict[str, Check] = {
    "framepack": Check(
        "FramePack computes what diffusers' class computes", lambda b: against_diffusers(b, b.framepack())
    ),
    "helios": Check("Helios computes what diffusers' class computes", lambda b: against_diffusers(b, b.helios())),
    "attention": Check("Every attention backend gives the same velocity", attention),
    "stage_2": Check("A Direct Forcing step needs what `mpgen plan` says", stage_2),
    "stage_1": Check("A step of the whole network needs what `mpgen plan` says", stage_1),
    "lora": Check("LoRA with int8 and block swapping needs what `mpgen plan` says", lora),
    "forcing": Check("Direct Forcing costs no extra time", forcing),
    "offload": Check("Offloaded blocks give the same numbers in less memory", offload),
    "eight_bit": Check("Blocks in 8 bits give nearly the same velocity", eight_bit),
    "caches": Check("Caches save the time of what they skip", caches),
    "length": Check("Cost is linear in the video's length, memory constant", length),
    "determinism": Check("The same seed gives the same video", determinism),
    "nccl": Check("Several GPUs work together", nccl),
    "gpu_tests": Check("Tests that need a GPU pass", gpu_tests),
}


@contextmanager
def bench(tiny: bool) -> Iterator[Bench]:
    """The place to check, and torch as it was afterwards."""
    before = torch.backends.cudnn.allow_tf32
    yield Bench(torch.device("cpu" if tiny else "cuda"), tiny)
    torch.backends.cudnn.allow_tf32 = before
    torch._dynamo.reset()
