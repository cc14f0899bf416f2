"""`mpgen generate`: one video from an image or a scene of the built-in world, or a whole suite of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mpgen.checkpoints import LoadedModel, load_for_generation
from mpgen.errors import UserError
from mpgen.flow import shift_for_tokens
from mpgen.generation.inputs import from_image, from_scene, from_suite, from_video, from_world, size_for
from mpgen.generation.models import choose_device, load_pipeline
from mpgen.generation.offload import offload_blocks
from mpgen.generation.pipeline import Job, Made, generate_video
from mpgen.generation.prompts import read_prompts
from mpgen.generation.rollout import Sampling
from mpgen.generation.sizes import BUCKET_RESOLUTION
from mpgen.sampling import SAMPLERS
from mpgen.sections import ORDERS, Layout, sections_for
from mpgen.video.pictures import cover, read_picture


def generate(
    output: Path,
    ckpt_path: Path | None = None,
    model: Path | None = None,
    memory: Path | None = None,
    encoders: Path | None = None,
    lora: Sequence[Path] | Path = (),
    image: Path | None = None,
    prompt: str | None = None,
    prompts: Path | None = None,
    end_image: Path | None = None,
    continue_from: Path | None = None,
    scene: Literal["occlude", "curtain", "panback", "steady", "bounce"] | None = None,
    world: Path | None = None,
    suite: Path | None = None,
    context: Literal["first_frame", "witness", "return"] = "first_frame",
    num_videos: int = 32,
    seconds: float = 5.0,
    fps: float | None = None,
    resolution: int | None = None,
    height_px: int | None = None,
    width_px: int | None = None,
    order: Literal["f1", "f0"] | None = None,
    sampler: Literal["euler", "unipc"] = "euler",
    steps: int = 10,
    shift: float | Literal["auto"] | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    ema: bool = True,
    device: str | None = None,
    offload: bool = False,
    overwrite: bool = False,
) -> None:
    """Make a video from a checkpoint or released weights, section by section; Ctrl-C leaves what was done, playable.

    Say what to start from in one of five ways: --image and --prompt; --continue_from, a video to go on with; --scene,
    for a first frame and a caption of the built-in world; --world, a folder that `mpgen world` made, whose held-out
    videos are all made again; or --suite, a CSV with a row for every video, such as the paper's.

    Example: mpgen generate --ckpt_path runs/quickstart/checkpoints/last.ckpt --scene bounce --output out.mp4
    Example: mpgen generate --model weights/HunyuanVideo --image cat.png --prompt "a cat" --sampler unipc --steps 25
    --output cat.mp4
    Example: mpgen generate --model weights/HunyuanVideo --suite configs/evaluate/paper_suite.csv --output samples/ours

    Args:
        output: the mp4 to write, with a JSON of the same name beside it; a folder with --world or --suite.
        ckpt_path: a checkpoint that `mpgen fit` wrote; it knows its own encoders.
        model: in its place, a folder with released FramePack or HunyuanVideo weights.
        memory: with --model, a checkpoint of `mpgen fit` or a folder of `mpgen export`, laid over those weights.
        encoders: with --model, the released pipeline's folder with autoencoder, text and image encoders, if elsewhere.
        lora: with --model, a LoRA file to merge, or several as [one.safetensors,two.safetensors].
        image: the first frame; it is scaled to cover the video's size and cropped, what is transparent lies on black.
        prompt: the text; with --scene, in place of the scene's own caption.
        prompts: texts that change on the way: a CSV with the columns seconds and prompt, or a YAML of seconds to
            prompts. A change holds from the next section that begins at or after it; the sections so far are then kept
            on disk, to make the memory anew under the new text.
        end_image: the last frame; with --order f0.
        continue_from: a video whose frames come first in the output; what follows is new. With --order f1.
        scene: a family of the built-in world; --seed says which of its scenes.
        world: make the held-out videos of this world.
        suite: make the videos of this CSV: name, image (a relative path begins at the CSV), and if wanted prompt and
            seconds. `mpgen evaluate --manifest` takes the same file.
        context: with --world, what the model is given: the first frame; witness, all true frames until the object has
            hidden; or return, all until the section in which it comes out again.
        num_videos: with --world, how many of them.
        seconds: length of what is made, rounded up to whole sections; with --suite, where a row does not say.
        fps: frames per second; those of training, and 30 for released weights, if not given.
        resolution: choose the released size that is nearest in shape to the image; 640 is the released one, whose wide
            shape is 480x832, and is taken for released weights if no size is given.
        height_px: of the video, with --width_px; those of training if no size is given.
        width_px: likewise.
        order: f1 makes sections in the order of time; f0 the last one first (for the weights FramePackI2V_HY). That of
            training if not given.
        sampler: euler, or unipc (third order).
        steps: forwards a section.
        shift: of the noise levels towards 1; "auto" follows from the tokens of a section as in FramePack, 7 at 480p.
            1 for a checkpoint and "auto" with --model if not given.
        guidance_scale: the distilled CFG scale; the one of training, and 10 for released weights, if not given.
        seed: of the noise.
        ema: use the averaged weights of a checkpoint.
        device: where to compute; a GPU if there is one.
        offload: for a model larger than the GPU: one large module there at a time, the backbone block by block.
        overwrite: replace files that are there.
    """
    given_sources = (image, continue_from, scene, world, suite)
    sources = tuple(zip(("--image", "--continue_from", "--scene", "--world", "--suite"), given_sources, strict=True))
    ways = [name for name, given in sources if given is not None]
    if len(ways) != 1:
        wanted = ", ".join(name for name, _ in sources)
        raise UserError(f"given {' and '.join(ways) or 'nothing'} to start from: wanted one of {wanted}")
    if (ckpt_path is None) == (model is None):
        raise UserError("wanted either --ckpt_path, a checkpoint of mpgen fit, or --model, released weights")
    if seconds <= 0 or steps < 1 or num_videos < 1 or (fps is not None and fps <= 0):
        raise UserError(
            f"--seconds {seconds} --fps {fps} --steps {steps} --num_videos {num_videos}: wanted more than 0 seconds "
            "and frames, and at least 1 step and 1 video"
        )
    with_model = [name for name, given in (("--memory", memory), ("--encoders", encoders), ("--lora", lora)) if given]
    if model is None and with_model:
        raise UserError(f"{' and '.join(with_model)} without --model: a checkpoint has its own weights")
    if world is not None and (end_image is not None or prompts is not None or resolution or height_px):
        raise UserError("--world makes its videos as they are: wanted no --end_image, --prompts or size")
    if suite is not None and (end_image is not None or prompt is not None or prompts is not None):
        raise UserError("--suite names its own texts and pictures: wanted no --prompt, --prompts or --end_image")
    if order is not None:
        _check_order(ORDERS[order], end_image, continue_from, context)

    loras = [lora] if isinstance(lora, Path) else lora
    loaded = _load(ckpt_path, model, memory, encoders, loras, device, ema, offload)
    loaded = loaded if fps is None else replace(loaded, fps=fps)
    num_sections = sections_for(seconds, loaded.fps, loaded.denoiser.layout.section)
    made_in = type(loaded.denoiser.layout) if order is None else ORDERS[order]
    _check_order(made_in, end_image, continue_from, context)

    # Released weights alone make any released size: the one that suits the picture.
    released = model is not None and memory is None and height_px is None and width_px is None
    wanted_resolution = BUCKET_RESOLUTION if resolution is None and released else resolution

    def choose_size(shape: tuple[int, int]) -> tuple[int, int]:
        return size_for(loaded, shape, wanted_resolution, height_px, width_px)

    evaluation = None
    if world is not None:
        jobs = from_world(loaded, world, output, context, num_videos, num_sections, made_in)
        evaluation = f"--world {world}"
    elif suite is not None:
        jobs = from_suite(loaded, suite, output, seconds, choose_size, made_in)
        evaluation = f"--manifest {suite}"
    else:
        if output.suffix != ".mp4":
            raise UserError(f"--output {output}: wanted a name that ends in .mp4")
        script = None if prompts is None else read_prompts(prompts, prompt)
        known, text = None, prompt or ""
        if image is not None:
            start = from_image(image, choose_size)
        elif continue_from is not None:
            frames = from_video(loaded, continue_from, choose_size)
            start, known = frames[0], frames[1:]
        else:
            start, caption = from_scene(loaded, scene, seed)
            text = prompt or caption
        end = None if end_image is None else cover(read_picture(end_image, "--end_image"), *start.shape[:2])
        text = text if script is None else script.texts[0]
        jobs = [Job(text, start, known, num_sections, output, end, made_in, script)]
    scale = loaded.guidance_scale if guidance_scale is None else guidance_scale
    amount = shift if shift is not None else 1.0 if model is None else "auto"
    samplings = [
        Sampling(SAMPLERS[sampler], steps, _shift_for(loaded, job) if amount == "auto" else float(amount), scale, seed)
        for job in jobs
    ]
    _make(loaded, jobs, samplings, output, evaluation, overwrite)


def _check_order(order: type[Layout], end_image: Path | None, continue_from: Path | None, context: str) -> None:
    """What is asked for can be made in this order."""
    if end_image is not None and not order.takes_end_image:
        raise UserError("--end_image with --order f1: wanted --order f0, which begins at the end of the video")
    if order.direction < 0 and (continue_from is not None or context != "first_frame"):
        given = f"--context {context}" if continue_from is None else "--continue_from"
        raise UserError(f"{given} with --order f0: wanted --order f1, which goes on from what was before")


def _load(
    ckpt_path: Path | None,
    folder: Path | None,
    memory: Path | None,
    encoders: Path | None,
    lora: Sequence[Path],
    device: str | None,
    ema: bool,
    offload: bool,
) -> LoadedModel:
    place = choose_device(device)
    if folder is not None:
        return load_pipeline(folder, encoders, memory, lora, place, ema, offload)
    if not offload:
        return load_for_generation(ckpt_path, place, ema)
    loaded = load_for_generation(ckpt_path, choose_device("cpu"), ema)
    offload_blocks(loaded.denoiser, place)
    return loaded


def _shift_for(model: LoadedModel, job: Job) -> float:
    """FramePack's shift for the tokens of one section."""
    side_px = model.encoders.vae.spatial_stride * model.denoiser.backbone.config.patch[1]
    height, width = job.start.shape[:2]
    return shift_for_tokens(model.denoiser.layout.section * (height // side_px) * (width // side_px))


def _make(
    model: LoadedModel,
    jobs: list[Job],
    samplings: list[Sampling],
    output: Path,
    evaluation: str | None,
    overwrite: bool,
) -> None:
    """Makes the jobs and says so; many that were interrupted go on where they stopped.

    Args:
        model: makes them.
        jobs: one, or many in a folder.
        samplings: one for each job.
        output: that was asked for.
        evaluation: what tells `mpgen evaluate` of many; None for one.
        overwrite: replace files that are there.
    """
    there = [job.output for job in jobs if job.output.exists()]
    if there and not overwrite and evaluation is None:
        raise UserError(f"--output {output} exists: wanted a new name, or --overwrite true")
    for job, sampling in zip(jobs, samplings, strict=True):
        if evaluation is not None and job.output in there and not overwrite:
            continue
        made = generate_video(model, job, sampling)
        if made.interrupted:
            if evaluation is None:
                raise SystemExit(_say(made, model.fps, " (interrupted)"))
            made.output.unlink()
            made.output.with_suffix(".json").unlink()
            raise SystemExit(f"{output}: interrupted; the same command goes on with {made.output.name}")
        if evaluation is None:
            print(_say(made, model.fps, ""))
    if evaluation is not None:
        print(f"{output}: {len(jobs)} videos")
        print(f"next:\n  mpgen evaluate {evaluation} --videos {output} --output {output}/scores")


def _say(made: Made, fps: float, how: str) -> str:
    settings = made.output.with_suffix(".json")
    return f"{made.output}: {made.frames} frames, {made.frames / fps:.1f} s{how}; settings in {settings}"
