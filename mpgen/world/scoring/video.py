"""One generated video against its truth: pure functions of frames, nothing is known of the model that made them.

Only generated frames are scored: those after `context_frames` true ones, in sections of `section_frames`. A score that
a video cannot have (nothing hides in it, say) is absent, never zero.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mpgen.errors import UserError
from mpgen.world.scoring.detect import detect
from mpgen.world.scoring.fidelity import background_psnr, chart_error, drift
from mpgen.world.scoring.ideal import ideal_objects
from mpgen.world.scoring.objects import IN_SIGHT, ObjectScores, score_objects
from mpgen.world.scoring.recall import RecallScore, score_recall
from mpgen.world.scoring.revisit import RevisitScores, score_revisits
from mpgen.world.truth import Truth


@dataclass(frozen=True)
class VideoScores:
    """All scores of one video; per-frame arrays start at the first generated frame, NaN where a frame has no score."""

    name: str
    family: str
    fps: int
    pixel_frames: int
    context_frames: int
    section_frames: int
    first_section: tuple[ObjectScores, ...]
    sections: tuple[tuple[ObjectScores, ...], ...]
    recalls: tuple[RecallScore, ...]
    revisits: RevisitScores | None
    background_psnr: Float[np.ndarray, " t"]
    background_drift: float | None
    chart_error: Float[np.ndarray, " t"]
    chart_drift: float | None

    @property
    def first_section_right(self) -> bool | None:
        """Whether everything that the start image shows is right in the first section."""
        return all(obj.drawn_as_one for obj in self.first_section) if self.first_section else None


def score_video(
    frames: UInt8[np.ndarray, "t h w 3"],
    truth: Truth,
    true_frames: UInt8[np.ndarray, "t2 h2 w2 3"],
    context_frames: int = 1,
    section_frames: int = 16,
) -> VideoScores:
    """Compare a video with its truth.

    Args:
        frames: the generated video, its true context first; frames beyond the truth's end are not judged.
        truth: what is true.
        true_frames: the true video.
        context_frames: how many of `frames` were given to the generator, the start image included.
        section_frames: how many frames were generated at a time.

    Raises:
        UserError: the size is not the truth's, or there is no generated frame.
    """
    size = (truth.size_px, truth.size_px)
    for kind, shape in (("generated", frames.shape), ("true", true_frames.shape)):
        if shape[1:3] != size:
            raise UserError(
                f"{truth.name}: the {kind} frames are {shape[2]}x{shape[1]}, its truth is {size[1]}x{size[0]}"
            )
    if len(true_frames) != truth.num_frames:
        raise UserError(f"{truth.name}: the true video has {len(true_frames)} frames, its truth {truth.num_frames}")
    if context_frames < 1 or section_frames < 1:
        raise UserError(
            f"{truth.name}: context_frames {context_frames}, section_frames {section_frames}; at least 1 is wanted"
        )
    total = min(len(frames), truth.num_frames)
    if total <= context_frames:
        raise UserError(
            f"{truth.name}: too short: {total} frames that can be judged, {context_frames} of them were given"
        )
    frames, true_frames = frames[:total], true_frames[:total]
    seen = detect(frames, truth.objects[0].radius_px)
    ideal = ideal_objects(truth)
    sections = tuple(
        score_objects(truth, seen, ideal, slice(start, min(start + section_frames, total)), context_frames)
        for start in range(context_frames, total, section_frames)
    )
    visible_at_start = {obj.id for obj in truth.objects if obj.visible[0] >= IN_SIGHT}
    first = tuple(obj for obj in sections[0] if obj.object_id in visible_at_start) if context_frames == 1 else ()
    background = background_psnr(frames, true_frames, truth, seen, context_frames)[context_frames:]
    chart = chart_error(frames, true_frames, truth)[context_frames:]
    return VideoScores(
        name=truth.name,
        family=truth.family,
        fps=truth.fps,
        pixel_frames=total,
        context_frames=context_frames,
        section_frames=section_frames,
        first_section=first,
        sections=sections,
        recalls=tuple(
            score
            for span in truth.hidden_spans
            if (score := score_recall(truth, seen, span, total, context_frames)) is not None
        ),
        revisits=score_revisits(frames, true_frames, truth, seen, ideal, context_frames),
        background_psnr=background,
        background_drift=drift(background),
        chart_error=chart,
        chart_drift=drift(chart),
    )
