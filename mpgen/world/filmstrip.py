"""Videos as rows of small pictures, to look at: the contact sheet of a world, or ours beside the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mpgen.atomic import replacing
from mpgen.video.clips import read_video
from mpgen.world.truth import UNSEEN, Truth
from mpgen.world.truth_files import load_truth
from mpgen.world.writer import WorldSummary

_KEPT_BITS = 0xFC  # six of eight: no eye sees it, and the file is half as large


@dataclass(frozen=True)
class Strip:
    """One row: frames to show, what stands above each, a label, and a mark (a colour name or "") around each frame."""

    label: str
    frames: Sequence[UInt8[np.ndarray, "h w 3"]]
    titles: Sequence[str]
    marks: Sequence[str]


def draw_strips(strips: Sequence[Strip], path: Path, cell_px: int = 96) -> None:
    """Write rows of pictures to a PNG, whole or not at all."""
    columns = max(len(strip.frames) for strip in strips)
    margin, gap, text = 0.14 * cell_px, 0.06 * cell_px, 0.22 * cell_px
    width = margin + columns * (cell_px + gap)
    height = gap + len(strips) * (cell_px + text + gap)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    for row, strip in enumerate(strips):
        bottom = height - (row + 1) * (cell_px + text + gap) + gap / 2
        font = 0.085 * cell_px
        figure.text(0.03 * cell_px / width, (bottom + cell_px / 2) / height, strip.label, rotation=90, va="center",
                    fontsize=font)  # fmt: skip
        for column, frame in enumerate(strip.frames):
            box = (margin + column * (cell_px + gap), bottom, cell_px, cell_px)
            axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            axes.imshow(frame, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(strip.titles[column], fontsize=font, pad=2, loc="left")
            for side in axes.spines.values():
                side.set(color=strip.marks[column] or "none", linewidth=2)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] & _KEPT_BITS
    with replacing(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, format="png", optimize=True)


def evenly(num_frames: int, columns: int) -> list[int]:
    """Frame numbers from the first to the last."""
    return [int(index) for index in np.linspace(0, num_frames - 1, columns).round()]


def hidden_at(truth: Truth, frame: int) -> bool:
    """Whether the object that hides, or what the first frame showed, is out of sight and will come back."""
    return any(
        span.first_hidden <= frame < span.first_seen
        and (truth.objects[span.object_id].role == "target" or truth.objects[span.object_id].visible[0] >= UNSEEN)
        for span in truth.hidden_spans
    )


def contact_sheet(world: WorldSummary, path: Path, columns: int = 9) -> None:
    """One long video of each family; a red frame says that something is out of sight."""
    strips = []
    for family in dict.fromkeys(video.family for video in world.videos):
        longest = max((video for video in world.videos if video.family == family), key=lambda video: video.pixel_frames)
        frames = read_video(world.root / "videos" / f"{longest.name}.mp4")
        truth = load_truth(world.root / "truth" / f"{longest.name}.json")
        shown = evenly(truth.num_frames, columns)
        strips.append(
            Strip(
                label=family,
                frames=[frames[index] for index in shown],
                titles=[f"{index / truth.fps:.1f} s" for index in shown],
                marks=["red" if hidden_at(truth, index) else "" for index in shown],
            )
        )
    draw_strips(strips, path)
