"""`mpgen generate`: one video from an image or a scene of the built-in world, or a whole suite of them."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from mpgen import caveats
from mpgen.attention import check_used, using
from mpgen.backbones.eight_bit import EightBit
from mpgen.backbones.spread import tokens_over
from mpgen.checkpoints import LoadedModel
from mpgen.errors import UserError
from mpgen.generation.denoising import Denoising
from mpgen.generation.familiarity import unfamiliar
from mpgen.generation.models import choose_device
from mpgen.generation.pipeline import Job, Made, generate_video, is_finished
from mpgen.generation.preview import PreviewFile, preview_of
from mpgen.generation.rollout import Sampling
from mpgen.generation.sizes import Bucket, ExactSize, OwnSize, Size
from mpgen.generation.starts.base import Making, Start
from mpgen.generation.starts.branch import FromBranch
from mpgen.generation.starts.image import FromImage
from mpgen.generation.starts.scene import FromScene
from mpgen.generation.starts.suite import FromSuite
from mpgen.generation.starts.text import FromText
from mpgen.generation.starts.video import FromVideo
from mpgen.generation.starts.world import FromWorld
from mpgen.generation.together import processes
from mpgen.generation.weights import Released, Shipped, Trained, Weights
from mpgen.machine import MAX_FPS
from mpgen.options import choose
from mpgen.outputs import check_file, check_folder
from mpgen.sections import ORDERS


def generate(
    output: Path,
    start: FromImage | FromVideo | FromBranch | FromScene | FromWorld | FromSuite | FromText,
    weights: Trained | Released | Shipped,
    size: Bucket | ExactSize | OwnSize,
    denoising: Denoising,
    fps: float | None = None,
    order: str | None = None,
    device: str | None = None,
    offload: bool = False,
    block_weights: EightBit | None = None,
    overwrite: bool = False,
    attention: str | None = None,
    preview: bool = False,
    context_parallel: int = 1,
) -> None:
    """Make a video from a checkpoint or released weights, section by section; Ctrl-C leaves what was done, playable.

    Say what to start from in one of seven ways: --image and --prompt; --prompt alone, with Helios or Wan;
    --continue_from, a video to go on with; --branch and --section, a video made here, made anew from a section on;
    --scene, for a first frame and a caption of the built-in world; --world, a folder that `mpgen world` made, whose
    held-out videos are all made again; or --suite, a CSV with a row for every video, such as the paper's. --like VIDEO
    takes the settings that a video made here says of itself.

    Example: mpgen generate --scene bounce --seconds 30 --output out.mp4
    Example: mpgen generate --ckpt_path runs/quickstart --scene bounce --output out.mp4
    Example: mpgen generate --model weights/HunyuanVideo --image cat.png --prompt "a cat" --sampler unipc --steps 25
    --output cat.mp4
    Example: mpgen generate --ckpt_path runs/quickstart --branch out.mp4 --section 3 --seed 5 --output other.mp4
    Example: mpgen generate --model weights/HunyuanVideo --suite configs/evaluate/paper_suite.csv --output samples/ours

    Args:
        output: the mp4 to write, with a JSON of the same name beside it; a folder with --world or --suite.
        start: what it begins from.
        weights: which make it; without any, those that come with mpgen, which know the built-in world alone.
        size: of the video.
        denoising: how it is denoised.
        fps: frames per second; those of training if not given; for released weights 30, and 24 in a suite, the paper's.
        order: f1 makes sections in the order of time; f0 the last one first (for the weights FramePackI2V_HY). That of
            training if not given.
        device: where to compute; a GPU if there is one.
        offload: for a model larger than the GPU: one large module there at a time, the backbone block by block.
        block_weights: int8 or float8 keeps the blocks' weights in 8 bits with a scale for each channel, in half the
            memory of bf16; products are computed as ever.
        overwrite: replace files that are there.
        attention: the kernel where it can compute: sdpa, onednn, flex, flash, sage or xformers; the faster of the first
            two if not given.
        preview: while it works, show the section that is being denoised in a .preview.png beside the video.
        context_parallel: so many GPUs share the tokens of one video, for sections that outgrow one:
            torchrun --nproc_per_node 2 --no_python mpgen generate --context_parallel 2 ...
    """
    if context_parallel != 1 and (start.makes_many or denoising.cache is not None):
        raise UserError(f"--context_parallel {context_parallel}: wanted one video, and no --cache")
    with nullcontext() if attention is None else using(attention), processes(context_parallel, output) as own_output:
        _generate(
            own_output,
            start,
            weights,
            size,
            denoising,
            fps,
            order,
            device,
            offload,
            block_weights,
            overwrite,
            preview,
            context_parallel,
        )


def _generate(
    output: Path,
    start: Start,
    weights: Weights,
    size: Size,
    denoising: Denoising,
    fps: float | None,
    order: str | None,
    device: str | None,
    offload: bool,
    block_weights: EightBit | None,
    overwrite: bool,
    preview: bool,
    context_parallel: int,
) -> None:
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise UserError(f"--fps {fps:g}: wanted more than 0 and at most {MAX_FPS:g}")
    if size.asked and not start.takes_size:
        raise UserError("a scene or a world has the size of the model: wanted no --resolution, --height_px, --width_px")
    asked_order = None if order is None else choose(ORDERS, order, f"--order {order}")
    if asked_order is not None:
        start.check_order(asked_order)
    if start.makes_many:
        check_folder(output, "--output")
    else:
        check_file(output, "--output", ".mp4", overwrite)
    start.check_files()

    place = choose_device(device)
    model = weights.load(place, offload, block_weights)
    if context_parallel != 1:
        model.denoiser.backbone.spread = tokens_over(context_parallel, model.denoiser.backbone.config.heads)
    check_used(place, next(model.denoiser.parameters()).dtype)
    asked_fps = start.fps if fps is None and weights.any_size else fps
    model = model if asked_fps is None else replace(model, fps=asked_fps)
    caveats.say(model.card.get("caveats", ()))
    made_in = asked_order or type(model.denoiser.layout)
    start.check_order(made_in)
    jobs = start.jobs(Making(model, size, weights.any_size, output, made_in, denoising.seed))
    jobs = denoising.controlled(model, jobs)
    samplings = [denoising.of(model, job, weights.shift) for job in jobs]
    if not start.makes_many:
        _warn_of_start(model, jobs[0])
        _make_one(model, jobs[0], samplings[0], preview)
        return
    _make_many(model, jobs, samplings, output, overwrite, preview)
    print(f"{output}: {len(jobs)} videos at {model.fps:g} frames a second, made with {_kind_of_weights(model)}")
    print(f"next:\n  mpgen evaluate {start.for_evaluate()} --videos {output} --output {output}/scores")


def _warn_of_start(model: LoadedModel, job: Job) -> None:
    place = next(model.denoiser.parameters()).device
    if job.start is not None and (said := unfamiliar(model.encoders.vae, job.start, place)) is not None:
        print(said, file=sys.stderr)


def _make(model: LoadedModel, job: Job, sampling: Sampling, preview: bool) -> Made:
    if not preview:
        return generate_video(model, job, sampling)
    picture = job.output.with_suffix(".preview.png")
    try:
        return generate_video(model, job, sampling, watcher=PreviewFile(preview_of(model.encoders.vae), picture))
    finally:
        picture.unlink(missing_ok=True)


def _make_one(model: LoadedModel, job: Job, sampling: Sampling, preview: bool) -> None:
    made = _make(model, job, sampling, preview)
    if made.interrupted:
        raise SystemExit(_say(made, model.fps, " (interrupted)"))
    print(_say(made, model.fps, ""))


def _make_many(
    model: LoadedModel,
    jobs: Sequence[Job],
    samplings: Sequence[Sampling],
    output: Path,
    overwrite: bool,
    preview: bool,
) -> None:
    """Makes those that are not there yet: what was interrupted goes on where it stopped."""
    for job, sampling in zip(jobs, samplings, strict=True):
        if is_finished(job.output) and not overwrite:
            continue
        if job.output.exists() and not overwrite:
            print(f"{job.output}: its JSON, which is written last, does not say that it is whole: made again")
        made = _make(model, job, sampling, preview)
        if made.interrupted:
            made.output.unlink()
            made.output.with_suffix(".json").unlink()
            raise SystemExit(f"{output}: interrupted; the same command goes on with {made.output.name}")


def _kind_of_weights(model: LoadedModel) -> str:
    """As the JSON beside each video says too, under `model`."""
    averaged = model.card.get("ema")
    return "released weights" if averaged is None else "averaged weights (EMA)" if averaged else "raw weights (not EMA)"


def _say(made: Made, fps: float, how: str) -> str:
    settings, forwards = made.output.with_suffix(".json"), made.forwards
    total = forwards.computed + forwards.skipped
    spared = f"; skipped {forwards.skipped} of {total} forwards" if total else ""
    return f"{made.output}: {made.frames} frames, {made.frames / fps:.1f} s{how}{spared}; settings in {settings}"
