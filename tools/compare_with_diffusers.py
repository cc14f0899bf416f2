"""Load one released folder with diffusers and with mpgen, feed both the same numbers, print the largest difference.

    python tools/compare_with_diffusers.py FOLDER --grid 11x7 --frames 5 --batch 2 --text 24 --seed 0

FOLDER is a transformer of diffusers' FramePack class, or a pipeline that holds one. Needs diffusers (`mpgen[hunyuan]`).
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import HunyuanVideoFramepackTransformer3DModel as Released
from torch import Tensor

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.checkpoints import load_released
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.errors import UserError
from mpgen.sections import Forward
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
        normal(batch, widths.pooled),
        normal(batch, image, widths.image),
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


def theirs(released: torch.nn.Module, case: Case) -> Latents:
    """The velocity by diffusers, its inputs laid out as its F1 pipeline does."""
    return released(**released_inputs(case)).sample


def released_inputs(case: Case) -> dict[str, Tensor]:
    """The arguments of diffusers' class: the last 19 frames as 16, 2 and 1, at indices 0 | 1-16 | 17, 18 | 19 | 20-."""
    start, conditioning, frames = case.start, case.conditioning, case.noisy.shape[2]
    batch, channels, _, height, width = start.shape
    empty = start.new_zeros(batch, channels, 19, height, width)
    at_4x, at_2x, at_1x = torch.cat([empty, start, *case.past], 2)[:, :, -19:].split([16, 2, 1], 2)
    indices = torch.arange(20 + frames, device=start.device)
    return {
        "hidden_states": case.noisy,
        "timestep": case.sigma * 1000,
        "encoder_hidden_states": conditioning.text,
        "encoder_attention_mask": conditioning.text_mask,
        "pooled_projections": conditioning.pooled,
        "image_embeds": conditioning.image,
        "indices_latents": indices[20:],
        "guidance": torch.full_like(case.sigma, 1000 * conditioning.guidance_scale),
        "latents_clean": torch.cat([start, at_1x], 2),
        "indices_latents_clean": indices[[0, 19]],
        "latents_history_2x": at_2x,
        "indices_latents_history_2x": indices[17:19],
        "latents_history_4x": at_4x,
        "indices_latents_history_4x": indices[1:17],
    }


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
        config = DenoiserConfig(HunyuanConfig(), layout=Forward(section=options.frames))
        denoiser = load_released(options.folder, config, dtype=torch.float32)
    except UserError as error:
        sys.exit(f"compare_with_diffusers: {error}")
    released = Released.from_pretrained(find(options.folder), torch_dtype=torch.float32).eval()
    case = make_case(denoiser, (rows, columns), options.frames, options.batch, options.text, options.past, options.seed)
    expected = theirs(released, case)
    difference = float((ours(denoiser, case) - expected).abs().max())
    print(f"largest difference {difference:.2e}, of velocities with standard deviation {float(expected.std()):.2f}")
    sys.exit(difference > TOLERANCE)


if __name__ == "__main__":
    main()
