"""How sharp is what Direct Forcing carries, beside what the model's sampler makes? By noise level, without training.

    python tools/carried_sharpness.py --world worlds/drift --ckpt_path runs/all/checkpoints/last.ckpt --output out.json

Videos of the world are gone through section by section, once conditioned on their true past and once on the model's
own. In each section the model makes its one-step estimate from several noise levels, the estimate in several steps
from there, one estimate noised and estimated again, and samples of several steps. Sharpness is the mean absolute
Laplacian of the latents, over the truth's; error is the root mean square of the difference to the truth.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mpgen.atomic import replacing
from mpgen.checkpoints import LoadedModel
from mpgen.checkpoints.runs import load_for_generation
from mpgen.data.dataset import VideoBatch
from mpgen.errors import UserError
from mpgen.flow import LogitNormal, add_noise, sigma_schedule
from mpgen.sampling import euler
from mpgen.tensors import Latents
from mpgen.training.estimates import finish
from mpgen.training.forcing import Forcing, SectionPass
from mpgen.training.noise import KeyedNoise
from mpgen.training.objective import Objective
from mpgen.training.targets import NextSection
from mpgen.world.render import render_scene
from mpgen.world.scenes import Scene
from mpgen.world.videos import scene_of, world_videos
from mpgen.world.writer import load_settings

SIGMAS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
IN_STEPS = (2, 4)
TWICE = (0.9, 0.5)
STEPS = (2, 5, 10)
LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def scene_latents(model: LoadedModel, scene: Scene, num_sections: int, size_px: int) -> tuple[Tensor, list[Tensor]]:
    """The start image and so many sections, each `[1, c, t, h, w]`."""
    frames = model.denoiser.layout.section_pixel_frames
    shorter = scene.between(0, 1 + num_sections * frames)
    clip = rearrange(torch.from_numpy(render_scene(shorter, size_px)), "t h w c -> 1 c t h w").float() / 127.5 - 1
    latents = model.encoders.vae.encode(clip)
    return latents[:, :, :1], list(latents[:, :, 1:].split(model.denoiser.layout.section, 2)) if num_sections else []


def start_image(model: LoadedModel, scene: Scene) -> Float[Tensor, "1 3 h w"]:
    """In [-1, 1], as the image encoder is given it."""
    image = render_scene(scene.between(0, 1), model.height_px)[0]
    return rearrange(torch.from_numpy(image), "h w c -> 1 c h w").float() / 127.5 - 1


@dataclass
class Watch(Forcing):
    """Carries the data or the model's sample, and notes of every section what could have been carried.

    Args:
        own: whether the sample is carried.
        sharpness, error: by what could have been carried, a number for each section.
    """

    own: bool
    sharpness: dict[str, list[float]] = field(default_factory=dict)
    error: dict[str, list[float]] = field(default_factory=dict)

    def carry(self, section: SectionPass) -> Latents:
        made = {f"estimate at {sigma}": _estimate(section, section.clean, sigma) for sigma in SIGMAS}
        for steps in IN_STEPS:
            made |= {f"{sigma} in {steps} steps": _estimate(section, section.clean, sigma, steps) for sigma in SIGMAS}
        first, second = TWICE
        made[f"{first}, then {second}"] = _estimate(section, _estimate(section, section.clean, first), second)
        for steps in STEPS:
            made[f"sample of {steps} steps"] = euler(section.velocity_fn, section.noise, sigma_schedule(steps))
        true = _sharpness(section.clean)
        for name, latents in made.items():
            self.sharpness.setdefault(name, []).append(float(_sharpness(latents) / true))
            self.error.setdefault(name, []).append(float((latents - section.clean).square().mean().sqrt()))
        return latents if self.own else section.clean


def _estimate(section: SectionPass, clean: Latents, sigma: float, steps: int = 1) -> Latents:
    level = torch.full_like(section.sigma, sigma)
    return finish(section.velocity_fn, add_noise(clean, section.noise, level), level, steps)


def _sharpness(latents: Latents) -> Float[Tensor, ""]:
    pictures = rearrange(latents, "b c t h w -> (b c t) 1 h w")
    return F.conv2d(pictures, LAPLACIAN[None, None]).abs().mean()


@torch.no_grad()
def watch(model: LoadedModel, world: Path, videos: int, sections: int, own: bool) -> Watch:
    """All that could have been carried in so many held-out videos, of which each has so many sections at least.

    Raises:
        UserError: no video is long enough.
    """
    settings = load_settings(world)
    frames = 1 + sections * model.denoiser.layout.section_pixel_frames
    chosen = [video for video in world_videos(settings) if video.split == "val" and video.pixel_frames >= frames][
        :videos
    ]
    if not chosen:
        raise UserError(f"{world}: no held-out video of {frames} frames, which {sections} sections need (--sections)")
    scenes = [scene_of(settings, video) for video in chosen]
    encoded = [scene_latents(model, scene, sections, settings.size_px) for scene in scenes]
    start = torch.cat([first for first, _ in encoded])
    pictures = torch.cat([start_image(model, scene) for scene in scenes])
    captions = tuple(scene.caption for scene in scenes)
    conditioning = model.encoders.conditioning(captions, pictures).guided(model.guidance_scale)
    seen = Watch(own)
    # The last section carries nothing, so one more is given than is looked at.
    latents = torch.cat([torch.cat([*after, after[-1]], 2) for _, after in encoded])
    uids = tuple(video.name for video in chosen)
    batch = VideoBatch(start, latents, conditioning, sections + 1, uids, captions)
    for _ in Objective(seen, LogitNormal(), NextSection()).losses(model.denoiser, batch, KeyedNoise(0, 0)):
        pass
    return seen


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, required=True, help="folder made by mpgen world")
    parser.add_argument("--ckpt_path", type=Path, required=True, help="checkpoint of mpgen fit")
    parser.add_argument("--videos", type=int, default=24, help="at most so many (default 24)")
    parser.add_argument("--sections", type=int, default=7, help="of each video (default 7)")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    try:
        model = load_for_generation(options.ckpt_path, torch.device("cpu"))
        true, own = (watch(model, options.world, options.videos, options.sections, own) for own in (False, True))
    except UserError as error:
        parser.error(str(error))
    with replacing(options.output) as unfinished:
        unfinished.write_text(json.dumps({"true history": vars(true), "own history": vars(own)}, indent=1) + "\n")
    print(f"{'':20}  true history     own history      (mean over sections; {options.output} has each)")
    print(f"{'':20}  sharpness error  sharpness error")
    for name in true.sharpness:
        means = [sum(row[name]) / len(row[name]) for seen in (true, own) for row in (seen.sharpness, seen.error)]
        print(f"{name:20}  {means[0]:9.2f} {means[1]:5.2f}  {means[2]:9.2f} {means[3]:5.2f}")


if __name__ == "__main__":
    main()
