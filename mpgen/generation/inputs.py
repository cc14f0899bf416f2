"""What a video begins from: an image, a scene of the built-in world, a video to go on with; a suite's or a world's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mpgen.checkpoints import LoadedModel
from mpgen.data.manifest import read_manifest
from mpgen.data.suite import read_suite
from mpgen.errors import UserError
from mpgen.generation.pipeline import Job
from mpgen.generation.sizes import bucket_for
from mpgen.sections import Layout, sections_for
from mpgen.video.clips import decode_clip, read_video, video_size
from mpgen.video.pictures import cover, read_picture
from mpgen.world.families import sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings
from mpgen.world.truth import Truth
from mpgen.world.truth_files import load_truth

Frame = UInt8[np.ndarray, "h w 3"]
ChooseSize = Callable[[tuple[int, int]], tuple[int, int]]  # height and width of a source to those of the video


def size_for(
    model: LoadedModel, shape: tuple[int, int], resolution: int | None, height_px: int | None, width_px: int | None
) -> tuple[int, int]:
    """Height and width of the video to make.

    Args:
        model: has a size of its own, which is taken when nothing is asked for.
        shape: height and width of what the video begins from.
        resolution: choose the released bucket that is nearest in shape.
        height_px, width_px: ask for a size, both or neither.

    Raises:
        UserError: a contradiction, or sides that the model's patches do not tile.
    """
    if (height_px is None) != (width_px is None) or (height_px is not None and resolution is not None):
        raise UserError(
            f"--resolution {resolution} --height_px {height_px} --width_px {width_px}: "
            "wanted a resolution, or both a height and a width, or none of them"
        )
    multiple = model.encoders.vae.spatial_stride * model.denoiser.backbone.config.patch[1]
    if resolution is not None:
        return bucket_for(*shape, resolution, multiple)
    if height_px is None or width_px is None:
        return model.height_px, model.width_px
    if height_px < multiple or width_px < multiple or height_px % multiple or width_px % multiple:
        raise UserError(f"--height_px {height_px} --width_px {width_px}: wanted multiples of {multiple}")
    return height_px, width_px


def from_image(path: Path, choose_size: ChooseSize, option: str = "--image") -> Frame:
    """The picture at the size that `choose_size` makes of its own."""
    picture = read_picture(path, option)
    return cover(picture, *choose_size((picture.height, picture.width)))


def from_scene(model: LoadedModel, family: str, seed: int) -> tuple[Frame, str]:
    """First frame and caption of a scene of the built-in world, as wide as the model."""
    size = model.height_px
    scene = sample_scene(WorldSettings(size_px=size, fps=round(model.fps)), family, 61, (seed, 2))
    return render_scene(scene, size)[0], scene.caption


def from_video(model: LoadedModel, path: Path, choose_size: ChooseSize) -> UInt8[np.ndarray, "t h w 3"]:
    """All frames of a video at the model's rate; they stay in memory, 1.2 MB a frame at 480 x 832.

    Raises:
        UserError: it cannot be used, or is shorter than a start frame and one section.
    """
    height, width = choose_size(video_size(path))
    frames = decode_clip(path, model.fps, height, width)
    wanted = 1 + model.denoiser.layout.section_pixel_frames
    if len(frames) < wanted:
        raise UserError(
            f"--continue_from {path} has {len(frames)} frames at {model.fps:g} a second: "
            f"wanted at least {wanted}, a start frame and one section"
        )
    return frames


def from_world(
    model: LoadedModel,
    world: Path,
    output: Path,
    context: str,
    num_videos: int,
    num_sections: int,
    order: type[Layout],
) -> list[Job]:
    """The held-out videos of a world as jobs; with "witness" or "return", those that have something to remember."""
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
        if context != "first_frame":
            given = _known_sections(load_truth(world / "truth" / f"{name}.json"), context, section)
            if given is None or len(frames) < 1 + given * section:
                continue
            known = frames[1 : 1 + given * section].copy() if given else None
        jobs.append(Job(record.caption, frames[0].copy(), known, num_sections, output / f"{name}.mp4", order=order))
    if not jobs:
        raise UserError(f"{world}: no held-out video suits --context {context}")
    return jobs


def _known_sections(truth: Truth, context: str, section: int) -> int | None:
    """How many sections of so many frames are given after the first frame; None if nothing hides (and returns)."""
    if context == "witness":
        return None if truth.witness_frames == 0 else -(-max(truth.witness_frames - 1, 0) // section)
    returns = [span.first_seen for span in truth.hidden_spans]
    return None if not returns else (min(returns) - 1) // section


def from_suite(
    model: LoadedModel, suite: Path, output: Path, seconds: float, choose_size: ChooseSize, order: type[Layout]
) -> list[Job]:
    """The rows of a suite as jobs, each file under its row's name.

    Args:
        model: makes them.
        suite: a CSV, see `mpgen.data.suite`.
        output: the folder of the videos.
        seconds: the length where a row does not say.
        choose_size: of a picture.
        order: of the sections.

    Raises:
        UserError: a row without an image, one that cannot be read, or a name that leads out of the folder.
    """
    rows = read_suite(suite, "--suite")
    if not rows:
        raise UserError(f"--suite {suite} has no row: wanted one for every video")
    section, jobs = model.denoiser.layout.section, []
    for number, row in enumerate(rows, 1):
        place = f"{suite} row {number}"
        name = Path(row.name if row.name.endswith(".mp4") else f"{row.name}.mp4")
        if name.is_absolute() or ".." in name.parts:
            raise UserError(f"{place}: name {row.name!r}: wanted a path inside the folder of videos")
        if not row.image:
            raise UserError(f"{place}: {row.name!r} has no image: wanted its first frame")
        start = from_image(suite.parent / row.image, choose_size, f"{place}: image")
        num_sections = sections_for(row.seconds or seconds, model.fps, section)
        jobs.append(Job(row.prompt, start, None, num_sections, output / name, order=order))
    return jobs
