"""Which spans of a clip are trained on: a pure function of its scores and of thresholds.

A clip falls into shots at its cuts, at pauses of the file and at black; each shot loses half a second at both ends,
where cuts are inexact and clips begin with the end of another shot. Freezes go out of what is left, and what moves
too little goes whole. A still camera before a small moving subject has little motion, but much in one block: it stays.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mpgen.data.curate.scores import FPS, FROZEN_MOTION, HEIGHT_PX, ClipScores, Span
from mpgen.errors import UserError
from mpgen.sections import count_sections, pixel_frames, section_pixel_frames
from mpgen.video.upright import misfit

FLOWS_PER_SECOND = 8
STEP_FRAMES = FPS // FLOWS_PER_SECOND


@dataclass(frozen=True)
class Thresholds:
    """What a segment must be like.

    Args:
        height_px: of the frames that will be trained on.
        width_px: likewise; portraits are used only if it is not the larger one.
        section_latent_frames: latent frames of a section; a segment holds the start image and one section at least.
        max_seconds: longer stretches are cut into pieces of this length.
        stride_seconds: from the start of one such piece to the next, at least `max_seconds`.
        trim_seconds: taken off both ends of each shot.
        min_motion: VMAF motion; below it and below `min_local_motion` a segment is static.
        min_local_motion: the same in the block of an 8x8 grid where it is largest.
        min_flow: VBench's dynamic degree asks for 6 (pixels of a picture whose shorter side is 256); 0 asks nothing.
        shaky_motion: segments above are kept and flagged.
        min_freeze_seconds: shorter freezes stay.
        max_bars: a clip whose black borders take more of its height or width is not used.
        split_soft_cuts: take a possible dissolve for a cut; otherwise segments with one are kept and flagged.
        keep_damaged: use a damaged clip up to the damage.
        keep_interlaced: use interlaced clips, whose edges are combed where something moves.
    """

    height_px: int = 480
    width_px: int = 832
    section_latent_frames: int = 9
    max_seconds: float | int = 60.0
    stride_seconds: float | int = 60.0
    trim_seconds: float | int = 0.5
    min_motion: float | int = 0.5
    min_local_motion: float | int = 2.0
    min_flow: float | int = 0.0
    shaky_motion: float | int = 20.0
    min_freeze_seconds: float | int = 1.0
    max_bars: float | int = 0.02
    split_soft_cuts: bool = False
    keep_damaged: bool = True
    keep_interlaced: bool = True

    def __post_init__(self) -> None:
        if self.max_frames < self.min_frames:
            raise UserError(f"max_seconds {self.max_seconds:g}: a section alone takes {self.min_frames / FPS:.2f} s")
        if self.stride_seconds < self.max_seconds:
            raise UserError(
                f"stride_seconds {self.stride_seconds:g} is less than max_seconds {self.max_seconds:g}: "
                "segments would overlap"
            )
        if self.trim_seconds < 0:
            raise UserError(f"trim_seconds {self.trim_seconds:g}: wanted 0 or more")

    @property
    def min_frames(self) -> int:
        return pixel_frames(1 + self.section_latent_frames)

    @property
    def max_frames(self) -> int:
        return round(self.max_seconds * FPS)


@dataclass(frozen=True)
class Segment:
    """Frames [first, end) of a clip to train on, see `ClipScores` for the units."""

    first: int
    end: int
    num_sections: int
    motion: float
    local_motion: float
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Rejection:
    """Frames [first, end) of a clip that are not used, and why: a short code and words with numbers."""

    first: int
    end: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What becomes of a clip, both in the order of time."""

    segments: tuple[Segment, ...]
    rejections: tuple[Rejection, ...]


def verdict(scores: ClipScores, thresholds: Thresholds) -> Verdict:
    """The segments of a clip that hold to the thresholds, and what was left out.

    Raises:
        UserError: `min_flow` is asked for and the clip was scored without RAFT.
    """
    wrong = _unusable(scores, thresholds)
    if wrong is not None:
        return Verdict((), (Rejection(0, scores.num_frames, *wrong),))
    segments: list[Segment] = []
    rejections = [*_lost(scores, thresholds)]
    for piece in _pieces(scores, thresholds):
        first, end = piece
        if end - first < thresholds.min_frames:
            short = f"{(end - first) / FPS:.2f} s are left of a shot, a section takes {thresholds.min_frames / FPS:.2f}"
            rejections.append(Rejection(first, end, "too_short", short))
            continue
        found = _judge(scores, thresholds, piece)
        if isinstance(found, Segment):
            segments.append(found)
        else:
            rejections.append(found)
    return Verdict(tuple(segments), tuple(sorted(rejections, key=lambda left: (left.first, left.end, left.reason))))


def _unusable(scores: ClipScores, thresholds: Thresholds) -> tuple[str, str] | None:
    """Why a clip cannot be used at all: reason and detail."""
    wrong = misfit((float(scores.height_px), float(scores.width_px)), thresholds.height_px, thresholds.width_px)
    if wrong is not None:
        return wrong
    if max(scores.bars) > thresholds.max_bars:
        named = ", ".join(
            f"{share:.1%} {side}"
            for side, share in zip(("top", "bottom", "left", "right"), scores.bars, strict=True)
            if share > 0
        )
        return "letterbox", f"has black borders: {named}; at most {thresholds.max_bars:.1%}"
    if "corrupt_stream" in scores.flags and not thresholds.keep_damaged:
        return "corrupt_stream", scores.detail
    if "interlaced" in scores.flags and not thresholds.keep_interlaced:
        return "interlaced", "is interlaced"
    return None


def _lost(scores: ClipScores, thresholds: Thresholds) -> Iterator[Rejection]:
    """The stretches that no segment may touch."""
    for first, end in scores.gaps:
        yield Rejection(first, end, "variable_gap", f"has no frame for {(end - first + 1) / FPS:.2f} s")
    for first, end in scores.blacks:
        yield Rejection(first, end, "black", f"is black for {(end - first) / FPS:.2f} s")
    for first, end in _freezes(scores, thresholds):
        yield Rejection(first, end, "frozen", f"nothing moves for {(end - first) / FPS:.2f} s")
    if scores.detail:
        yield Rejection(scores.num_frames, scores.num_frames, "corrupt_stream", f"{scores.detail}; used up to there")


def _freezes(scores: ClipScores, thresholds: Thresholds) -> list[Span]:
    """Those long enough; black is black, not frozen."""
    outside = [span for freeze in scores.freezes for span in _between(*freeze, scores.blacks)]
    return [(first, end) for first, end in outside if end - first >= thresholds.min_freeze_seconds * FPS]


def _pieces(scores: ClipScores, thresholds: Thresholds) -> Iterator[Span]:
    """Stretches of one shot without freezes, none longer than allowed."""
    cuts = scores.cuts + (scores.soft_cuts if thresholds.split_soft_cuts else ())
    borders = [*scores.gaps, *scores.blacks, *((cut, cut) for cut in cuts)]
    trim = round(thresholds.trim_seconds * FPS)
    stride = round(thresholds.stride_seconds * FPS)
    for shot_first, shot_end in _between(0, scores.num_frames, borders):
        middle = (shot_first + shot_end) // 2
        if shot_end - shot_first <= 2 * trim:
            yield middle, middle
        for first, end in _between(
            min(shot_first + trim, middle), max(shot_end - trim, middle), _freezes(scores, thresholds)
        ):
            for start in range(first, end, stride):
                yield start, min(start + thresholds.max_frames, end)


def _between(first: int, end: int, taken: Sequence[Span]) -> Iterator[Span]:
    """What `taken` leaves of [first, end)."""
    at = first
    for taken_first, taken_end in sorted(taken):
        if min(taken_first, end) > at:
            yield at, min(taken_first, end)
        at = max(at, taken_end)
    if at < end:
        yield at, end


def _judge(scores: ClipScores, thresholds: Thresholds, piece: Span) -> Segment | Rejection:
    first, end = piece
    seconds = slice(first // FPS, math.ceil(end / FPS))
    overlap = np.array([min(end, (s + 1) * FPS) - max(first, s * FPS) for s in range(seconds.start, seconds.stop)])
    curve = np.array(scores.motion[seconds])
    motion = float(np.average(curve, weights=overlap[: len(curve)]))
    local_motion = float(np.percentile(scores.local_motion[seconds], 95))
    if motion < thresholds.min_motion and local_motion < thresholds.min_local_motion:
        return Rejection(
            first,
            end,
            "static",
            f"motion {motion:.2f} < {thresholds.min_motion:g} and local motion {local_motion:.2f} < "
            f"{thresholds.min_local_motion:g}",
        )
    if thresholds.min_flow > 0:
        reached, needed = count_dynamic(scores.flow, piece, thresholds.min_flow)
        if reached < needed:
            return Rejection(first, end, "low_flow", f"{reached} pairs of frames move enough, wanted {needed}")
    flags = [*scores.flags]
    if motion > thresholds.shaky_motion:
        flags.append("shaky")
    if motion >= thresholds.min_motion and np.median(scores.motion_low[seconds]) < FROZEN_MOTION:
        flags.append("stutters")
    if any(first < cut < end for cut in scores.soft_cuts):
        flags.append("soft_cut")
    num_sections = count_sections(end - first, section_pixel_frames(thresholds.section_latent_frames))
    return Segment(first, end, num_sections, round(motion, 3), round(local_motion, 3), tuple(sorted(flags)))


def count_dynamic(flow: Sequence[float], piece: Span, min_flow: float | int) -> tuple[int, int]:
    """VBench's dynamic degree: how many pairs of frames at 8 Hz move more than the threshold, and how many must.

    Raises:
        UserError: there is no flow.
    """
    if not flow:
        raise UserError("min_flow needs RAFT scores: mpgen data score DATA --raft WEIGHTS")
    pairs = flow[math.ceil(piece[0] / STEP_FRAMES) : piece[1] // STEP_FRAMES]
    threshold = min_flow * HEIGHT_PX / 256
    return sum(value > threshold for value in pairs), round(4 * (len(pairs) + 1) / 16)
