"""What a run will cost, before anyone rents a machine for it: `mpgen fit --config ... --print_summary`.

Parameters are those of the network itself, built on the meta device without memory; operations follow from its sizes;
the memory in use is an estimate, whose parts are told so that they can be checked. Encoders are not in it: training
reads their outputs from the cache.
"""

from dataclasses import dataclass
from itertools import chain
from math import ceil, prod
from typing import Any

import torch

from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.dit.model import DiTConfig
from mpgen.tensors import MaskedTokens
from mpgen.training.module import LongVideoModule
from mpgen.training.parameters import select_trainable

TEXT_TOKENS, IMAGE_TOKENS = 256, 729  # the most that the released encoders give
SAVED_WIDTHS = 22  # numbers a token that a block keeps for its backward pass, in widths of the model, counted by hand
LATENT_PX = 8  # side of a latent, of the released autoencoder and of the stand-in; its weights need not be here
GIB = 2**30


@dataclass(frozen=True)
class SectionTokens:
    """Tokens of one section and all that it sees, by where they come from."""

    section: int
    history_1x: int
    history_2x: int
    history_4x: int
    memory: int
    image: int
    text: int

    @property
    def video(self) -> int:
        return self.section + self.history_1x + self.history_2x + self.history_4x + self.memory

    @property
    def condition(self) -> int:
        return self.image + self.text


@dataclass(frozen=True)
class Machines:
    """What a run is given.

    Args:
        gpus: over all nodes.
        sharded: weights, gradients and the optimizer's state are spread over them (FSDP), not copied.
        weight_bytes: of a number in a weight: 4 where the precision is mixed.
        activation_bytes: of a number in an activation.
    """

    gpus: int
    sharded: bool
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class MemoryCost:
    """The long-term memory's size, and the floating point operations of one update and of giving it to the backbone."""

    tokens: int
    flops: int


def memory_cost(config: DenoiserConfig, rows: int, columns: int) -> MemoryCost:
    """For sections of `rows` x `columns` latents; the structure says who asks and who answers."""
    semantic, dit = config.semantic, config.dit
    if semantic is None:
        return MemoryCost(0, 0)
    per_frame = ceil(rows / semantic.window_patch[1]) * ceil(columns / semantic.window_patch[2])
    window = ceil(config.layout.section / semantic.window_patch[0]) * per_frame
    # Sets of empty vectors go through the structure: only their number matters here.
    memory = semantic.structure.seed(_nothing(IMAGE_TOKENS + TEXT_TOKENS), _nothing(per_frame))
    memory, _ = semantic.structure.roles(_nothing(per_frame), memory)
    for _ in range(2):  # from then on its size stays
        query, key_value = semantic.structure.roles(_nothing(window), memory)
        memory = query
    q, kv, w, ratio = query.tokens.shape[1], key_value.tokens.shape[1], semantic.width, semantic.mlp_ratio
    embed = 2 * window * dit.in_channels * prod(semantic.window_patch) * w
    memorize = 2 * window * (4 + 2 * ratio) * w**2 + 4 * window**2 * w
    squeeze = 2 * w**2 * (q * (2 + 2 * ratio) + 2 * kv) + 4 * q * kv * w
    read = 2 * q * w * dit.width
    return MemoryCost(q, round(embed + semantic.memorize_layers * memorize + squeeze + read))


def _nothing(count: int) -> MaskedTokens:
    return MaskedTokens(torch.empty(1, count, 0), torch.ones(1, count, dtype=torch.bool))


def count_tokens(config: DenoiserConfig, rows: int, columns: int, memory: int) -> SectionTokens:
    """Tokens of a section of `rows` x `columns` latents; packing pads at the ends."""
    layout, patch = config.layout, config.dit.patch_size
    rows, columns = rows // patch, columns // patch
    packed = [
        ceil(frames / k) * ceil(rows / k) * ceil(columns / k)
        for frames, k in (
            (layout.section, 1),
            (1 + layout.history_1x, 1),
            (layout.history_2x, 2),
            (layout.history_4x, 4),
        )
    ]
    return SectionTokens(*packed, memory, IMAGE_TOKENS, TEXT_TOKENS)


def forward_flops(dit: DiTConfig, tokens: SectionTokens) -> int:
    """Floating point operations of one forward pass of the backbone, a multiplication and an addition being two."""
    w, ratio = dit.width, dit.mlp_ratio
    refiner_ratio = ratio if dit.refiner_mlp_ratio is None else dit.refiner_mlp_ratio
    everything = tokens.video + tokens.condition
    attention = 4 * everything**2 * w
    double = 2 * everything * (4 + 2 * ratio) * w**2 + attention + 2 * 12 * w**2
    single = 2 * everything * (4 + 2 * ratio) * w**2 + attention + 2 * 3 * w**2
    refiner = 2 * tokens.text * (4 + 2 * refiner_ratio) * w**2 + 4 * tokens.text**2 * w + 2 * 2 * w**2
    patch = dit.in_channels * prod(dit.patch)
    embeds = 2 * w * patch * (tokens.section + tokens.history_1x + 8 * tokens.history_2x + 64 * tokens.history_4x)
    text = 2 * tokens.text * dit.text_embed_dim * w
    image = 2 * tokens.image * 3 * w * (dit.image_proj_dim + w)
    vectors = 2 * w * (3 * 256 + 5 * w + dit.pooled_projection_dim + dit.text_embed_dim)
    blocks = dit.num_layers * double + dit.num_single_layers * single + dit.num_refiner_layers * refiner
    return round(blocks + embeds + text + image + vectors + head_flops(dit, tokens))


def head_flops(dit: DiTConfig, tokens: SectionTokens) -> int:
    """Of the last norm and the output layer."""
    return 2 * dit.width * (2 * dit.width + tokens.section * dit.in_channels * prod(dit.patch))


def machines_for(trainer: dict[str, Any]) -> Machines:
    """What the trainer's settings ask for; "auto" counts as one GPU."""
    devices, nodes = trainer["devices"], trainer["num_nodes"]
    if isinstance(devices, list):
        count = len(devices)
    elif isinstance(devices, str) and "," in devices:
        count = len([part for part in devices.split(",") if part.strip()])
    else:
        count = int(devices) if str(devices).isdigit() else 1
    precision = str(trainer["precision"])
    strategy = trainer["strategy"]
    named = strategy if isinstance(strategy, str) else str(strategy.get("class_path", ""))
    return Machines(
        gpus=max(count, 1) * nodes,
        sharded="fsdp" in named.lower(),
        weight_bytes=2 if precision.endswith("true") and "16" in precision else 4,
        activation_bytes=2 if "16" in precision else 4,
    )


def summarise(
    module: LongVideoModule, height_px: int, width_px: int, max_sections: int, batch_size: int, machines: Machines
) -> str:
    """The bill, as text.

    Args:
        module: what trains; its network need not be built.
        height_px, width_px: of the videos.
        max_sections: of the longest video.
        batch_size: videos a GPU takes in one update.
        machines: what it runs on.
    """
    with torch.device("meta"):
        denoiser = Denoiser(module.denoiser_config)
    trainable = select_trainable(denoiser, module.train_patterns)
    dit = denoiser.config
    rows, columns = height_px // LATENT_PX, width_px // LATENT_PX
    memory = memory_cost(module.denoiser_config, rows, columns)
    tokens = count_tokens(module.denoiser_config, rows, columns, memory.tokens)
    total = sum(p.numel() for p in denoiser.parameters())
    of_memory = sum(p.numel() for name, p in denoiser.named_parameters() if name.startswith("semantic_pack."))

    forward = forward_flops(dit, tokens)
    share = trainable.count / total
    if trainable.head_only:
        section_flops = forward + 2 * head_flops(dit, tokens) + memory.flops
        how = "forward, and backward through the head only"
    else:
        section_flops = (2 + share) * forward + (1 + 2 * module.memory_windows) * memory.flops
        how = f"forward, backward, and gradients of {share:.2%} of the weights"

    shards = machines.gpus if machines.sharded else 1
    weights = total * machines.weight_bytes / shards
    gradients = trainable.count * machines.weight_bytes / shards
    states = trainable.count * 8 / shards
    average = trainable.count * machines.weight_bytes / shards
    everything = batch_size * (tokens.video + tokens.condition)
    kept_blocks = 1 if trainable.head_only else dit.num_layers + dit.num_single_layers
    activations = everything * SAVED_WIDTHS * dit.width * machines.activation_bytes * kept_blocks
    needed = sum((weights, gradients, states, average, activations))
    spread = f"spread over {machines.gpus}" if machines.sharded and machines.gpus > 1 else "whole on each"

    lines = [
        ("network", f"{total:,} parameters: backbone {total - of_memory:,}, memory {of_memory:,}"),
        ("trains", f"{trainable.count:,} ({share:.3%}): {', '.join(module.train_patterns)}"),
        ("section", f"{denoiser.layout.section} latent frames of {height_px}x{width_px}, "
                    f"{denoiser.layout.section_pixel_frames} pixel frames; up to {max_sections} sections a video"),
        ("tokens", f"{tokens.video:,} of video (section {tokens.section:,}, history 1x {tokens.history_1x:,}, "
                   f"2x {tokens.history_2x:,}, 4x {tokens.history_4x:,}, memory {tokens.memory:,}), "
                   f"{tokens.condition:,} of condition (image {tokens.image}, text at most {tokens.text})"),
        ("forward", f"{_flops(forward)} a section, and {_flops(memory.flops)} for the memory"),
        ("update", f"{_flops(section_flops)} a section ({how}); "
                   f"{_flops(section_flops * batch_size * max_sections)} a GPU for {batch_size} video(s) of "
                   f"{max_sections} sections"),
        ("machines", f"{machines.gpus} GPU(s), weights {spread}"),
        ("memory", f"about {needed / GIB:.1f} GiB a GPU: weights {weights / GIB:.1f}, gradients {gradients / GIB:.1f}, "
                   f"two moments in fp32 {states / GIB:.1f}, average {average / GIB:.1f}, "
                   f"activations {activations / GIB:.1f} (rough; no checkpointing)"),
    ]  # fmt: skip
    return "\n".join(f"{name:<9} {text}" for name, text in chain(lines, [("note", "encoders are not counted")]))


def _flops(count: float | int) -> str:
    for scale, name in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
        if count >= scale:
            return f"{count / scale:.3g} {name}"
    return f"{count / 1e6:.3g} MFLOP"
