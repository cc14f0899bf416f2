"""Load one released folder with diffusers and with mpgen, feed both the same numbers, print the largest difference.

    python tools/compare_with_diffusers.py FOLDER --grid 11x7 --frames 5 --batch 2 --text 24 --seed 0

FOLDER is a transformer of diffusers' class of FramePack, Helios or Wan, or a pipeline that holds one; its config.json
says which. Needs diffusers (`mpgen[hunyuan]`, `mpgen[wan]`).
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
from torch import Tensor

from mpgen.backbones.base import Context
from mpgen.backbones.rope import no_rotation
from mpgen.checkpoints import load_released
from mpgen.checkpoints.released import read_backbone_config
from mpgen.checkpoints.sources import read_json
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.errors import UserError
from mpgen.sections import Forward, Layout
from mpgen.tensors import Latents, Sigma, Still

GUIDANCE_SCALE = 10.0
TOLERANCE = 2e-5  # in fp32


@dataclass(frozen=True)
class Case:
    """Inputs of one forward.

    Args:
        start: the start image's latents.
        past: sections that are there already; without any, most of the history is missing.
        noisy: the section.
        sigma: noise level of each video.
        conditioning: text and image features, and the guidance scale.
    """

    start: Still
    past: tuple[Latents, ...]
    noisy: Latents
    sigma: Sigma
    conditioning: Conditioning


def make_case(
    denoiser: Denoiser,
    grid: tuple[int, int],
    frames: int,
    batch: int,
    text: int,
    past: int,
    seed: int,
    valid: int | None = None,
    image: int = 10,
) -> Case:
    """Random inputs; the texts of a batch have different lengths.

    Args:
        denoiser: whose inputs.
        grid: rows and columns of patches.
        frames: latent frames of a section.
        batch: videos.
        text: text tokens, padding included.
        past: sections that are there already.
        seed: of everything.
        valid: text tokens of the first video; two thirds of `text` if None.
        image: image tokens.
    """
    sizes = denoiser.backbone.config
    widths, (_, patch_y, patch_x) = sizes.widths, sizes.patch
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    channels, height, width = widths.latents, grid[0] * patch_y, grid[1] * patch_x
    first = max(1, 2 * text // 3) if valid is None else valid
    lengths = torch.tensor([max(1, first - 5 * i) for i in range(batch)])
    conditioning = Conditioning(
        normal(batch, text, widths.text),
        torch.arange(text)[None] < lengths[:, None],
        None if widths.pooled is None else normal(batch, widths.pooled),
        None if widths.image is None else normal(batch, image, widths.image),
        GUIDANCE_SCALE,
    )
    return Case(
        normal(batch, channels, 1, height, width),
        tuple(normal(batch, channels, frames, height, width) for _ in range(past)),
        normal(batch, channels, frames, height, width),
        torch.linspace(0.871, 0.3, batch),
        conditioning,
    )


def ours(denoiser: Denoiser, case: Case) -> Latents:
    """The velocity by mpgen."""
    past = denoiser.begin(case.start, case.conditioning)
    for section in case.past:
        past = past.after(section)
    return denoiser(case.noisy, case.sigma, past.pack(), case.conditioning)


def ours_without_history(denoiser: Denoiser, case: Case) -> Latents:
    """The velocity of the section alone, whose frames are counted from 0."""
    sizes, (batch, _, frames, _, _) = denoiser.backbone.config, case.noisy.shape
    context = Context(
        case.noisy.new_zeros(batch, 0, sizes.width),
        no_rotation(batch, 0, sizes.head_dim, case.noisy.device),
        torch.ones(batch, 0, dtype=torch.bool),
        torch.arange(frames).expand(batch, -1),
    )
    return denoiser(case.noisy, case.sigma, context, case.conditioning)


def framepack_inputs(case: Case, layout: Layout) -> dict[str, Tensor]:
    """The arguments of diffusers' FramePack class, laid out as its F1 pipeline does."""
    conditioning = case.conditioning
    at_4x, at_2x, at_1x, indices = _history(case, layout)
    of_4x, of_2x, of_1x, of_section = indices
    return {
        "hidden_states": case.noisy,
        "timestep": case.sigma * 1000,
        "encoder_hidden_states": conditioning.text,
        "encoder_attention_mask": conditioning.text_mask,
        "pooled_projections": conditioning.pooled,
        "image_embeds": conditioning.image,
        "indices_latents": of_section,
        "guidance": torch.full_like(case.sigma, 1000 * conditioning.guidance_scale),
        "latents_clean": torch.cat([case.start, at_1x], 2),
        "indices_latents_clean": torch.cat([torch.tensor([0]), of_1x]),
        "latents_history_2x": at_2x,
        "indices_latents_history_2x": of_2x,
        "latents_history_4x": at_4x,
        "indices_latents_history_4x": of_4x,
    }


def helios_inputs(case: Case, layout: Layout) -> dict[str, Tensor]:
    """The arguments of diffusers' Helios class, laid out as its pipeline does; what a layout lacks is left out."""
    at_4x, at_2x, at_1x, indices = _history(case, layout)
    of_4x, of_2x, of_1x, of_section = (row.expand(len(case.noisy), -1) for row in indices)
    given = wan_inputs(case, layout) | {
        "indices_hidden_states": of_section,
        "latents_history_short": torch.cat([case.start, at_1x], 2),
        "indices_latents_history_short": F.pad(of_1x, (1, 0)),
        "latents_history_mid": at_2x,
        "indices_latents_history_mid": of_2x,
        "latents_history_long": at_4x,
        "indices_latents_history_long": of_4x,
    }
    sizes = {"_mid": layout.history_2x, "_long": layout.history_4x}
    return {name: value for name, value in given.items() if all(n or not name.endswith(s) for s, n in sizes.items())}


def wan_inputs(case: Case, _: Layout) -> dict[str, Tensor]:
    """The arguments of diffusers' Wan class: text is padded with zeros to 512 tokens, without a mask."""
    text = case.conditioning.text * case.conditioning.text_mask[..., None]
    return {
        "hidden_states": case.noisy,
        "timestep": case.sigma * 1000,
        "encoder_hidden_states": F.pad(text, (0, 0, 0, 512 - text.shape[1])),
    }


def _history(case: Case, layout: Layout) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """The last frames at 4x, 2x and 1x, zeros where there are none, and the indices of these and of the section."""
    batch, channels, _, height, width = case.start.shape
    empty = case.start.new_zeros(batch, channels, layout.history, height, width)
    sizes = [layout.history_4x, layout.history_2x, layout.history_1x]
    parts = torch.cat([empty, case.start, *case.past], 2)[:, :, -layout.history :].split(sizes, 2)
    indices = torch.arange(1, 1 + layout.history + case.noisy.shape[2])
    return *parts, indices.split([*sizes, case.noisy.shape[2]])


@dataclass(frozen=True)
class Family:
    """A class of diffusers.

    Args:
        name: of the class.
        inputs: its arguments.
        ours: the velocity by mpgen.
    """

    name: str
    inputs: Callable[[Case, Layout], dict[str, Tensor]]
    ours: Callable[[Denoiser, Case], Latents] = ours

    @property
    def released(self) -> type[torch.nn.Module]:
        return getattr(diffusers, self.name)


FRAMEPACK = Family("HunyuanVideoFramepackTransformer3DModel", framepack_inputs)
HELIOS = Family("HeliosTransformer3DModel", helios_inputs)
WAN = Family("WanTransformer3DModel", wan_inputs, ours_without_history)
FAMILIES = {family.name: family for family in (FRAMEPACK, HELIOS, WAN)}


def theirs(released: torch.nn.Module, case: Case, layout: Layout) -> Latents:
    """The velocity by diffusers."""
    return released(**FAMILIES[type(released).__name__].inputs(case, layout)).sample


def find(folder: Path) -> Path:
    """The transformer's own folder."""
    return folder / "transformer" if (folder / "transformer").is_dir() else folder


@torch.no_grad()
def main() -> None:
    """Command line entry; the status is 1 if they differ by more than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a released folder")
    parser.add_argument("--grid", default="11x7", help="rows and columns of patches (default 11x7)")
    parser.add_argument("--frames", type=int, default=9, help="latent frames of a section (default 9)")
    parser.add_argument("--batch", type=int, default=1, help="videos (default 1)")
    parser.add_argument("--text", type=int, default=24, help="text tokens, a third of them padding (default 24)")
    parser.add_argument("--past", type=int, default=3, help="sections already there; 0: history is missing (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default 0)")
    options = parser.parse_args()
    rows, columns = (int(part) for part in options.grid.split("x"))
    try:
        backbone = read_backbone_config(find(options.folder) / "config.json")
        config = DenoiserConfig(backbone, layout=Forward(section=options.frames))
        denoiser = load_released(options.folder, config, dtype=torch.float32)
    except UserError as error:
        sys.exit(f"compare_with_diffusers: {error}")
    family = FAMILIES.get(read_json(find(options.folder) / "config.json")["_class_name"], FRAMEPACK)
    released = family.released.from_pretrained(find(options.folder), torch_dtype=torch.float32).eval()
    case = make_case(denoiser, (rows, columns), options.frames, options.batch, options.text, options.past, options.seed)
    expected = theirs(released, case, denoiser.layout)
    difference = float((family.ours(denoiser, case) - expected).abs().max())
    said = f"largest difference {difference:.2e}, of velocities with standard deviation {float(expected.std()):.2f}"
    print(f"{family.name}: {said}")
    sys.exit(difference > TOLERANCE)


if __name__ == "__main__":
    main()
