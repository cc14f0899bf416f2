"""`mpgen generate`: one video from an image or a scene of the built-in world, or a whole suite of them."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from mpgen.checkpoints import LoadedModel, load_for_generation
from mpgen.data.manifest import read_manifest
from mpgen.data.video import read_video
from mpgen.data.world.families import sample_scene
from mpgen.data.world.render import render_scene
from mpgen.data.world.settings import WorldSettings
from mpgen.data.world.truth import load_truth
from mpgen.errors import UserError
from mpgen.generation.pipeline import Job, Made, generate_video
from mpgen.generation.rollout import Sampling
from mpgen.sampling import SAMPLERS
from mpgen.sections import sections_for


def generate(
    ckpt_path: Path,
    output: Path,
    image: Path | None = None,
    prompt: str | None = None,
    scene: Literal["occlude", "panback", "steady", "bounce"] | None = None,
    world: Path | None = None,
    context: Literal["first_frame", "witness"] = "first_frame",
    num_videos: int = 32,
    seconds: float = 5.0,
    sampler: Literal["euler", "unipc"] = "euler",
    steps: int = 10,
    shift: float = 1.0,
    guidance_scale: float | None = None,
    seed: int = 0,
    ema: bool = True,
    device: str | None = None,
    overwrite: bool = False,
) -> None:
    """Make a video from a checkpoint, section by section; Ctrl-C leaves a playable file of what was done.

    Say what to start from in one of three ways: --image and --prompt; --scene, for a first frame and a caption of the
    built-in world; or --world, a folder that `mpgen world` made, whose held-out videos are all made again.

    Example: mpgen generate --ckpt_path runs/quickstart/checkpoints/last.ckpt --scene bounce --output out.mp4

    Args:
        ckpt_path: a checkpoint that `mpgen fit` wrote.
        output: the mp4 to write, with a JSON of the same name beside it; a folder with --world.
        image: the first frame; it is scaled to cover the model's size and cropped.
        prompt: the text; with --scene, in place of the scene's own caption.
        scene: a family of the built-in world; --seed says which of its scenes.
        world: make the held-out videos of this world.
        context: with --world, what the model is given: the first frame, or all true frames until the object has hidden.
        num_videos: with --world, how many of them.
        seconds: length, rounded up to whole sections.
        sampler: euler, or unipc (third order).
        steps: forwards a section.
        shift: of the noise levels towards 1; FramePack's value at 480p is 7.
        guidance_scale: the distilled guidance; the one of training if not given.
        seed: of the noise.
        ema: use the averaged weights.
        device: where to compute; a GPU if there is one.
        overwrite: replace files that are there.
    """
    ways = [name for name, given in (("--image", image), ("--scene", scene), ("--world", world)) if given is not None]
    if len(ways) != 1:
        raise UserError(
            f"given {' and '.join(ways) or 'nothing'} to start from: wanted one of --image, --scene, --world"
        )
    if seconds <= 0 or steps < 1 or num_videos < 1:
        raise UserError(
            f"--seconds {seconds} --steps {steps} --num_videos {num_videos}: wanted more than 0 seconds, "
            "and at least 1 step and 1 video"
        )
    model = load_for_generation(ckpt_path, _device(device), ema)
    scale = model.guidance_scale if guidance_scale is None else guidance_scale
    sampling = Sampling(SAMPLERS[sampler], steps, shift, scale, seed)
    num_sections = sections_for(seconds, model.fps, model.denoiser.layout.section)

    if world is not None:
        jobs = _suite(model, world, output, context, num_videos, num_sections)
    else:
        if output.suffix != ".mp4":
            raise UserError(f"--output {output}: wanted a name that ends in .mp4")
        start, text = (
            _from_image(model, image, prompt) if image is not None else _from_scene(model, scene, prompt, seed)
        )
        jobs = [Job(text, start, None, num_sections, output)]
    there = [job.output for job in jobs if job.output.exists()]
    if there and not overwrite and world is None:
        raise UserError(f"--output {output} exists: wanted a new name, or --overwrite true")

    for job in jobs:
        if world is not None and job.output in there and not overwrite:
            continue  # a suite that was interrupted goes on where it stopped
        made = generate_video(model, job, sampling)
        if made.interrupted:
            if world is None:
                raise SystemExit(_say(made, model.fps, " (interrupted)"))
            made.output.unlink()
            made.output.with_suffix(".json").unlink()
            raise SystemExit(f"{output}: interrupted; the same command goes on with {made.output.name}")
        if world is None:
            print(_say(made, model.fps, ""))
    if world is not None:
        print(f"{output}: {len(jobs)} videos")
        print(f"next:\n  mpgen evaluate --world {world} --videos {output} --output {output}/scores")


def _device(name: str | None) -> torch.device:
    """The device asked for; otherwise a GPU if there is one."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"--device {name} cannot be used, wanted cpu or cuda: {said}") from error
    return device


def _say(made: Made, fps: float, how: str) -> str:
    settings = made.output.with_suffix(".json")
    return f"{made.output}: {made.frames} frames, {made.frames / fps:.1f} s{how}; settings in {settings}"


def _from_image(model: LoadedModel, path: Path, prompt: str | None) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            fitted = ImageOps.fit(upright, (model.width_px, model.height_px), Image.Resampling.LANCZOS)
    except FileNotFoundError:
        raise UserError(f"--image {path} does not exist") from None
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"--image {path} cannot be read as a picture: {error}") from error
    return np.array(fitted), prompt or ""


def _from_scene(
    model: LoadedModel, family: str, prompt: str | None, seed: int
) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    size = model.height_px
    scene = sample_scene(WorldSettings(size_px=size, fps=round(model.fps)), family, 61, (seed, 2))
    return render_scene(scene, size)[0], prompt or scene.caption


def _suite(
    model: LoadedModel, world: Path, output: Path, context: str, num_videos: int, num_sections: int
) -> list[Job]:
    """The held-out videos of a world as jobs; with "witness", only those that have something to remember."""
    records = read_manifest(world / "manifest.csv", split="val").records
    section = model.denoiser.layout.section_pixel_frames
    jobs = []
    for record in records:
        if len(jobs) == num_videos:
            break
        name = Path(record.path).stem
        frames, known = read_video(record.path), None
        if frames.shape[1:3] != (model.height_px, model.width_px):
            raise UserError(
                f"{record.path} is {frames.shape[2]}x{frames.shape[1]}: "
                f"wanted {model.width_px}x{model.height_px}, which the model makes"
            )
        if context == "witness":
            witness = load_truth(world / "truth" / f"{name}.json").witness_frames
            num_known = -(-max(witness - 1, 0) // section)
            if witness == 0 or len(frames) < 1 + num_known * section:
                continue
            known = frames[1 : 1 + num_known * section].copy() if num_known else None
        jobs.append(Job(record.caption, frames[0].copy(), known, num_sections, output / f"{name}.mp4"))
    if not jobs:
        raise UserError(f"{world}: no held-out video suits --context {context}")
    return jobs
