"""Time one forward of mpgen's transformer against diffusers' class: equal weights and inputs, interleaved in one run.

    python tools/benchmark_transformer.py                                  # CPU, fp32, 8 heads x 64, 4 + 8 layers
    python tools/benchmark_transformer.py --device cuda                    # GPU, bf16, the width of 13B, 2 + 4 layers
    python tools/benchmark_transformer.py --grid 8x12 --double 1 --single 2 --profile
    python tools/benchmark_transformer.py --family helios --grid 24x40     # Wan with packed history; --double blocks

Where the time goes (CPU, fp32, 30x52 patches, so 18,755 tokens): in diffusers four fifths are torch's attention, whose
matrix products run in MKL, an eighth the linear layers, the rest norms, rotations and copies. mpgen does the attention
of long sequences in oneDNN where that is faster on the machine (`mpgen.attention`; `--attention` takes one of the two
everywhere), crops the padding that every text of a batch has instead of masking it, skips masked keys, and fuses scale,
shift and gate; the linear layers cost the same in both. Where oneDNN and MKL have equally good kernels for a processor
the first of these gains less. Of Helios, diffusers modulates every token with a vector of its own, of which there are
two; mpgen has the two. History is packed anew in every forward, as diffusers does; in a rollout mpgen packs it, and
reads Helios' text, once a section.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from compare_with_diffusers import FRAMEPACK, HELIOS, Case, make_case, ours, theirs
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mpgen.attention import BACKENDS, using
from mpgen.backbones.base import BackboneConfig
from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.wan import WanConfig
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.sections import Forward

TEXT, VALID, IMAGE = 256, 60, 729
PAST = 3  # sections that are there, so that no history is missing


@dataclass(frozen=True)
class Timing:
    """Seconds of each forward, in the order in which they ran."""

    theirs: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times as fast mpgen is: the median over pairs."""
        return statistics.median(t / o for t, o in zip(self.theirs, self.ours, strict=True))


def build(
    config: BackboneConfig, frames: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.nn.Module, Denoiser]:
    """diffusers' class and ours, with equal random weights."""
    torch.manual_seed(0)
    is_helios = isinstance(config, WanConfig)
    names = ("num_attention_heads", "attention_head_dim", "num_layers")
    names += ("ffn_dim", "rope_dim") if is_helios else ("num_single_layers", "rope_axes_dim")
    sizes = {name: getattr(config, name) for name in names}
    sizes |= {} if is_helios else {"has_image_proj": True, "has_clean_x_embedder": True}
    with torch.device(device):
        released = (HELIOS if is_helios else FRAMEPACK).released(**sizes).to(dtype).eval()
        denoiser = Denoiser(DenoiserConfig(config, layout=Forward(section=frames))).to(dtype).eval()
    denoiser.backbone.load_state_dict(released.state_dict())
    return released.requires_grad_(False), denoiser.requires_grad_(False)


def moved(case: Case, device: torch.device, dtype: torch.dtype) -> Case:
    """The inputs on a device; noise levels stay fp32, as the pipeline passes them."""
    start, noisy, *past = (latents.to(device, dtype) for latents in (case.start, case.noisy, *case.past))
    return replace(
        case,
        start=start,
        noisy=noisy,
        past=tuple(past),
        sigma=case.sigma.to(device),
        conditioning=case.conditioning.to(device, dtype),
    )


def timed(forward: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """Wall time of a forward, and what it gave."""
    _wait(device)
    began = time.perf_counter()
    result = forward()
    _wait(device)
    return time.perf_counter() - began, result


def pairs(released: torch.nn.Module, denoiser: Denoiser, case: Case, number: int) -> tuple[Timing, float]:
    """Times of interleaved forwards after one that does not count, and the largest difference of the velocities."""
    device = case.noisy.device
    layout = denoiser.layout
    difference = float((theirs(released, case, layout) - ours(denoiser, case)).abs().max())
    both = [
        (timed(lambda: theirs(released, case, layout), device)[0], timed(lambda: ours(denoiser, case), device)[0])
        for _ in range(number)
    ]
    return Timing(*zip(*both, strict=True)), difference


def tables(released: torch.nn.Module, denoiser: Denoiser, case: Case) -> Iterator[str]:
    """Where the time goes in each."""
    on_gpu = case.noisy.device.type == "cuda"
    layout = denoiser.layout
    for name, forward in (
        ("diffusers", lambda: theirs(released, case, layout)),
        ("mpgen", lambda: ours(denoiser, case)),
    ):
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
            forward()
            _wait(case.noisy.device)
        sort_by = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
        yield name + "\n" + profiled.key_averages().table(sort_by=sort_by, row_limit=12)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="framepack", choices=["framepack", "helios"], help="default framepack")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default float32 on a CPU, else bfloat16")
    parser.add_argument("--heads", type=int, help="default 8 on a CPU, else 24")
    parser.add_argument("--head_dim", type=int, choices=[64, 128], help="default 64 on a CPU, else 128")
    parser.add_argument("--double", type=int, help="double-stream blocks, of Helios all; default 4 on a CPU, else 2")
    parser.add_argument("--single", type=int, help="single-stream blocks; default 8 on a CPU, else 4")
    parser.add_argument("--grid", default="30x52", help="rows and columns of patches (default 30x52: 480x832 pixels)")
    parser.add_argument("--frames", type=int, default=9, help="latent frames of the section (default 9)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2], help="default 1 2")
    parser.add_argument("--pairs", type=int, default=3, help="forwards of each (default 3)")
    parser.add_argument("--attention", choices=BACKENDS, help="mpgen's backend; default what is faster here")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype or ("bfloat16" if on_gpu else "float32"))
    head_dim = options.head_dim or (128 if on_gpu else 64)
    heads, layers = options.heads or (24 if on_gpu else 8), options.double or (2 if on_gpu else 4)
    config: BackboneConfig = HunyuanConfig(
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        num_layers=layers,
        num_single_layers=options.single or (4 if on_gpu else 8),
        rope_axes_dim=(16, 56, 56) if head_dim == 128 else (16, 24, 24),
    )
    if options.family == "helios":
        rope = (44, 42, 42) if head_dim == 128 else (24, 20, 20)
        config = WanConfig(
            num_attention_heads=heads, attention_head_dim=head_dim, num_layers=layers, rope_dim=rope,
            ffn_dim=heads * head_dim * 27 // 10,
        )  # fmt: skip
    released, denoiser = build(config, options.frames, device, dtype)
    rows, columns = (int(part) for part in options.grid.split("x"))
    print(f"{options.device} {dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}, {config}")
    for batch in options.batch:
        drawn = make_case(denoiser, (rows, columns), options.frames, batch, TEXT, PAST, 0, valid=VALID, image=IMAGE)
        case = moved(drawn, device, dtype)
        with nullcontext() if options.attention is None else using(options.attention):
            timing, difference = pairs(released, denoiser, case, options.pairs)
        print(
            f"batch {batch}: diffusers {statistics.median(timing.theirs):.3f} s, "
            f"mpgen {statistics.median(timing.ours):.3f} s, {timing.ratio:.2f} times as fast "
            f"(pairs {', '.join(f'{t / o:.2f}' for t, o in zip(timing.theirs, timing.ours, strict=True))}); "
            f"largest difference {difference:.1e}",
            flush=True,
        )
        if options.profile:
            print(*tables(released, denoiser, case), sep="\n")


if __name__ == "__main__":
    main()
