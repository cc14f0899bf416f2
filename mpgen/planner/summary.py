"""The plan of a run as text: `mpgen plan`, and `mpgen fit --print_summary` with the machines that the config names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from mpgen.backbones.recompute import RECOMPUTE, Recompute
from mpgen.backbones.spread import check_shares
from mpgen.planner.needs import Assumptions, Machines, MemoryNeed, Network, memory_need, pace
from mpgen.training.dry_run import DryRun, Precision, Shape, dry_run
from mpgen.training.module import LongVideoModule

GIB = 2**30
DAY_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Videos:
    """What the run learns from.

    Args:
        height_px, width_px: of the pictures.
        max_sections: of the longest video.
        mean_sections: of a video, on average.
        batch_size: videos that a GPU takes at a time.
        steps: of the whole run; None where nothing says it.
        latent_px: side of a latent.
        text_tokens, image_tokens: the most that the encoders give; no image tokens where the backbone takes none.
    """

    height_px: int
    width_px: int
    max_sections: int
    mean_sections: float | int
    batch_size: int
    steps: int | None
    latent_px: int
    text_tokens: int
    image_tokens: int

    @property
    def shape(self) -> Shape:
        rows, columns = self.height_px // self.latent_px, self.width_px // self.latent_px
        return Shape(self.batch_size, rows, columns, self.text_tokens, self.image_tokens)


def summarise(module: LongVideoModule, videos: Videos, machines: Machines, assumed: Assumptions) -> str:
    """The plan, as text: what it costs, whether it fits, and what else would.

    Args:
        module: what trains; its network need not be built.
        videos: what on.
        machines: what with.
        assumed: what no config says.
    """
    network = Network.of(module)
    check_shares(module.context_parallel, machines.gpus, module.denoiser_config.backbone.heads)

    @cache
    def run(precision: Precision, recompute: Recompute) -> DryRun:
        return dry_run(module, videos.shape, precision, recompute)

    plain, chosen = (run(machines.precision, recompute) for recompute in ("none", module.recompute))
    lines = [
        *_network_lines(module, network).items(),
        *_section_lines(network, videos, plain, module.context_parallel).items(),
        *_machine_lines(module, network, videos, machines, assumed, chosen).items(),
        *(("or", choice) for choice in _choices(module, network, machines, assumed, run)),
        ("note", "encoders are not counted: training reads their outputs from the cache"),
    ]
    return "\n".join(f"{name:<9} {text}" for name, text in lines)


def _network_lines(module: LongVideoModule, network: Network) -> dict[str, str]:
    named = network.denoiser.named_parameters()
    of_memory = sum(p.numel() for name, p in named if name.startswith("memory."))
    trained = network.trainable
    return {
        "network": f"{network.total:,} parameters: backbone {network.total - of_memory:,}, memory {of_memory:,}",
        "trains": f"{trained.count:,} ({trained.count / network.total:.3%}): {', '.join(module.train_patterns)}",
    }


def _section_lines(network: Network, videos: Videos, plain: DryRun, shares: int) -> dict[str, str]:
    layout, shape = network.denoiser.layout, videos.shape
    _, rows, columns = network.denoiser.backbone.config.patch
    own = layout.section * (shape.rows // rows) * (shape.columns // columns)
    total = own + plain.context_tokens + shape.text_tokens + shape.image_tokens
    how = "forward, and backward through the head alone" if network.trainable.head_only else "forward and backward"
    how += "" if shares == 1 else f"; each of {shares} GPUs its part"
    return {
        "section": f"{layout.section} latent frames of {videos.width_px}x{videos.height_px}, "
        f"{layout.section_pixel_frames} pixel frames; {videos.mean_sections:g} sections a video, "
        f"at most {videos.max_sections}",
        "tokens": f"{total:,}: section {own:,}, history and memory {plain.context_tokens:,}, "
        f"image {shape.image_tokens}, text at most {shape.text_tokens}",
        "compute": f"{_flops(plain.section_flops[-1])} a section of {videos.batch_size} video(s) ({how}), "
        f"{_flops(plain.flops(videos.max_sections))} for {videos.max_sections} sections",
    }


def _machine_lines(
    module: LongVideoModule,
    network: Network,
    videos: Videos,
    machines: Machines,
    assumed: Assumptions,
    chosen: DryRun,
) -> dict[str, str]:
    need = memory_need(module, network, machines, chosen)
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in vars(need).items() if size)
    spread = f"spread over all {machines.gpus} (fsdp2)" if machines.sharded else "whole on each"
    sections, batches = round(videos.mean_sections), module.accumulate_batches
    shares = module.context_parallel
    step_size = videos.batch_size * batches * machines.gpus // shares
    speed = pace(network, machines, chosen, assumed, sections, batches, shares)
    together = f", {shares} share the tokens of a video" if shares > 1 else ""
    waiting = sum(network.waiting_bytes(module.swap_blocks, module.frozen_dtype))
    copied = waiting * sections * batches * (1 if network.trainable.head_only else 2)
    swaps = f"; {waiting / GIB:.1f} GiB wait in host memory, {copied / 1e9:.3g} GB a step copied" if waiting else ""
    length = "how many steps is not said (--steps)"
    if videos.steps is not None:
        length = f"{videos.steps:,} steps: {videos.steps * speed.step / DAY_SECONDS:.2f} days"
    return {
        "machines": f"{machines.gpus} GPU(s), weights {spread}{together}",
        "assumed": f"{assumed.gpu} with {assumed.gpu_memory_gb:g} GB, {assumed.usable:.0%} of it usable; "
        f"{assumed.mfu:.0%} of {assumed.peak_flops / 1e12:g} TFLOP/s; {assumed.bandwidth_gb_s:g} GB/s between GPUs",
        "memory": f"{need.total / GIB:.1f} GiB a GPU: {parts}{swaps}; {_verdict(need, assumed)}",
        "traffic": f"{speed.received_bytes / 1e9:.3g} GB to each GPU a step, {speed.traffic:.3g} s beside "
        f"{speed.compute:.3g} s of computing",
        "time": f"{speed.step:.3g} s a step of {step_size} video(s); {length}",
    }


def _choices(
    module: LongVideoModule,
    network: Network,
    machines: Machines,
    assumed: Assumptions,
    run: Callable[[Precision, Recompute], DryRun],
) -> Iterator[str]:
    """What a GPU would need with other settings, so that what does not fit can be made to."""
    settings: tuple[Recompute, ...] = ("none",) if network.trainable.head_only else tuple(RECOMPUTE)
    if module.swap_blocks:
        settings = ("full",)
    ways = {False: "ddp", True: f"fsdp2 over {machines.gpus}"} if machines.gpus > 1 else {False: "one GPU"}
    for recompute in settings:
        found = []
        for sharded, name in ways.items():
            other = replace(machines, sharded=sharded)
            need = memory_need(module, network, other, run(machines.precision, recompute))  # near enough for both
            found.append(f"{name} {need.total / GIB:.1f} GiB ({_verdict(need, assumed)})")
        yield f"model.recompute {recompute}: {', '.join(found)}"
    blocks = len(network.denoiser.backbone.blocks)
    if module.swap_blocks != blocks and any(network.waiting_bytes(blocks, module.frozen_dtype)):
        whole = replace(machines, sharded=False)
        need = memory_need(module, network, whole, run(machines.precision, settings[-1]), blocks)
        yield f"and model.swap_blocks {blocks}: {ways[False]} {need.total / GIB:.1f} GiB ({_verdict(need, assumed)})"


def _verdict(need: MemoryNeed, assumed: Assumptions) -> str:
    over = need.total - assumed.usable * assumed.gpu_memory_gb * 1e9
    return "fits" if over <= 0 else f"does not fit by {over / GIB:.1f} GiB"


def _flops(count: float | int) -> str:
    for scale, name in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
        if count >= scale:
            return f"{count / scale:.3g} {name}"
    return f"{count / 1e6:.3g} MFLOP"
