"""`mpgen data filter`: decide by the scores which spans to train on."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mpgen.data.curate.captions import CaptionChoice
from mpgen.data.curate.filters import Rejection, Segment, Thresholds, verdict
from mpgen.data.curate.gallery import Shown, write_gallery
from mpgen.data.curate.score_files import ScoredClip, file_size, find_scores, read_scores
from mpgen.data.curate.scores import FPS, ClipScores
from mpgen.data.curate.sources.clip import SourceClip, read_clips
from mpgen.data.records import write_table
from mpgen.data.sizes import KEYS, keep_sizes
from mpgen.errors import UserError
from mpgen.video.workers import Failure


@dataclass(frozen=True)
class ManifestRow:
    """A line of manifest.csv; training reads the first five columns."""

    video: str
    caption: str
    split: str
    start_seconds: float
    end_seconds: float
    source: str
    clip_id: str
    sections: int
    motion: float
    local_motion: float
    flags: str


@dataclass(frozen=True)
class RejectedRow:
    """A line of rejected.csv: a span of a clip, counted like the manifest's; whole clips that failed have no end."""

    source: str
    row: int
    video: str
    start_seconds: float
    end_seconds: float | None
    reason: str
    detail: str
    uid: str


def filter(
    data: Path,
    /,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 (frozen)
    captions: CaptionChoice = CaptionChoice(),  # noqa: B008 (frozen)
    val_videos: int | None = None,
    scores: str | None = None,
) -> None:
    """Choose the spans to train on from what `mpgen data score` found; nothing is decoded, so try as often as you like.

    Writes DATA/manifest.csv, DATA/rejected.csv with a line for every rejected clip, its scores and the reason, and
    DATA/gallery.html, on which some of either play. Sizes that are given are kept for `mpgen data cache`.

    Example: mpgen data filter DATA --thresholds.min_motion 1 --val_videos 32

    Args:
        data: the folder that `mpgen data score` has been through.
        thresholds: what a segment must be like.
        captions: which caption of a clip is used.
        val_videos: so many source videos, with all their segments, are kept for validation; a tenth of them if not
            given, at least one and at most 32.
        scores: which scores, if the folder holds some of several settings: the beginning of their folder's name.
    """
    clips = read_clips(data / "index.jsonl")
    scored = read_scores(find_scores(data, scores))
    chosen: list[tuple[SourceClip, Segment]] = []
    rejected: list[RejectedRow] = []
    spans: set[tuple[str, float, float]] = set()
    scored_frames = 0
    for clip in clips:
        outcome = _outcome(clip, scored.get(clip.uid), data)
        if isinstance(outcome, Failure):
            rejected.append(_whole(clip, outcome))
            continue
        scored_frames += outcome.num_frames
        found = verdict(outcome, thresholds)
        rejected += [_rejected(clip, rejection) for rejection in found.rejections]
        for segment in found.segments:
            span = (clip.path, *_span(clip, segment))
            if span in spans:
                rejected.append(_whole(clip, Failure("duplicate", "the same span of the same file was listed before")))
            else:
                spans.add(span)
                chosen.append((clip, segment))
    held_out = _held_out({clip.video_id for clip, _ in chosen}, val_videos)
    rows = [_to_row(clip, segment, captions, clip.video_id in held_out) for clip, segment in chosen]
    rejected.sort(key=lambda row: (row.source, row.row, row.video, row.start_seconds, row.reason))
    _write(data / "rejected.csv", RejectedRow, rejected)
    if not rows:  # and an older manifest stays
        raise UserError(
            f"{data}: nothing is left of {len(clips)} clips ({_reasons(rejected)}): "
            f"see {data / 'rejected.csv'}, and --thresholds in mpgen data filter --help"
        )
    _write(data / "manifest.csv", ManifestRow, rows)
    write_gallery(data / "gallery.html", _gallery(rows, rejected))
    usual = Thresholds()
    keep_sizes(data, {key: getattr(thresholds, key) for key in KEYS if getattr(thresholds, key) != getattr(usual, key)})
    _print_table(data, len(clips), scored_frames, rows, rejected)


def _outcome(clip: SourceClip, scored: ScoredClip | None, data: Path) -> ClipScores | Failure:
    size = file_size(data / clip.path)
    if scored is None:
        return Failure("not_scored", "run mpgen data score again")
    if scored.size != size:
        return Failure("missing", "no such file") if size < 0 else Failure("changed", "the file is not the one scored")
    return scored.outcome


def _span(clip: SourceClip, found: Segment | Rejection) -> tuple[float, float]:
    """In seconds of the file; a millisecond is a fortieth of a frame."""
    return round(clip.start_seconds + found.first / FPS, 3), round(clip.start_seconds + found.end / FPS, 3)


def _whole(clip: SourceClip, failure: Failure) -> RejectedRow:
    return RejectedRow(
        clip.source,
        clip.row,
        clip.path,
        clip.start_seconds,
        clip.end_seconds,
        failure.reason,
        failure.detail,
        clip.uid,
    )


def _rejected(clip: SourceClip, rejection: Rejection) -> RejectedRow:
    start, end = _span(clip, rejection)
    return RejectedRow(clip.source, clip.row, clip.path, start, end, rejection.reason, rejection.detail, clip.uid)


def _to_row(clip: SourceClip, segment: Segment, captions: CaptionChoice, held_out: bool) -> ManifestRow:
    start, end = _span(clip, segment)
    return ManifestRow(
        video=clip.path,
        caption=captions.choose(clip.captions),
        split="val" if held_out else "train",
        start_seconds=start,
        end_seconds=end,
        source=clip.source,
        clip_id=clip.clip_id,
        sections=segment.num_sections,
        motion=segment.motion,
        local_motion=segment.local_motion,
        flags=" ".join(segment.flags),
    )


def _held_out(video_ids: set[str], asked: int | None) -> set[str]:
    """The source videos for validation: those whose hashes come first, so that more videos change the choice little."""
    count = min(len(video_ids) - 1, max(1, min(32, round(len(video_ids) / 10)))) if asked is None else asked
    if video_ids and not 0 <= count < len(video_ids):
        raise UserError(f"--val_videos {count}: wanted fewer than the {len(video_ids)} source videos that are left")
    return set(sorted(video_ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])


def _gallery(rows: Sequence[ManifestRow], rejected: Sequence[RejectedRow]) -> list[tuple[str, list[Shown]]]:
    """Accepted clips by split, then rejected ones by reason, the most frequent first."""
    groups: dict[str, list[Shown]] = {}
    for row in sorted(rows, key=lambda row: row.split):
        text = f"{row.sections} sections, motion {row.motion:g}. {row.caption}"
        groups.setdefault(f"kept: {row.split}", []).append(Shown(row.video, row.start_seconds, row.end_seconds, text))
    reasons = Counter(row.reason for row in rejected)
    for reason, _ in reasons.most_common():
        groups[f"rejected: {reason}"] = [
            Shown(row.video, row.start_seconds, row.end_seconds, row.detail) for row in rejected if row.reason == reason
        ]
    return list(groups.items())


def _write(path: Path, kind: type, rows: Iterable) -> None:
    write_table(path, [field.name for field in fields(kind)], map(astuple, rows))


def _print_table(
    data: Path, num_clips: int, scored_frames: int, rows: Sequence[ManifestRow], rejected: Sequence[RejectedRow]
) -> None:
    seconds = sum(row.end_seconds - row.start_seconds for row in rows)
    uncaptioned = sum(not row.caption for row in rows)
    print(f"clips      {num_clips:>8,}  {scored_frames / FPS / 3600:>9.2f} h")
    print(f"segments   {len(rows):>8,}  {seconds / 3600:>9.2f} h")
    for split, count in sorted(Counter(row.split for row in rows).items()):
        print(f"  {split:<8} {count:>8,}")
    print("\n".join(_histogram(Counter(row.sections for row in rows))))
    if uncaptioned:
        print(f"without a caption: {uncaptioned:,}")
    print(f"left out   {len(rejected):>8,}  {_reasons(rejected) or 'nothing'}")
    print(f"{data / 'manifest.csv'}\n{data / 'rejected.csv'}\n{data / 'gallery.html'}")
    print(f"next: mpgen data cache {data} --encoders tiny|hunyuan|wan|open_clip")


def _reasons(rejected: Sequence[RejectedRow]) -> str:
    """How often each occurs, the most frequent first."""
    counts = Counter(row.reason for row in rejected)
    return ", ".join(
        f"{counts[reason]:,} {reason}" for reason in sorted(counts, key=lambda name: (-counts[name], name))
    )


def _histogram(counts: Counter[int], most_lines: int = 12) -> Iterator[str]:
    """Bars of how many segments have how many sections, several numbers to a line if there are many."""
    step = -(-max(counts) // most_lines)
    lines = {first: sum(counts[n] for n in range(first, first + step)) for first in range(1, max(counts) + 1, step)}
    yield "sections   segments"
    for first, count in lines.items():
        label = str(first) if step == 1 else f"{first}-{first + step - 1}"
        yield f"  {label:<8} {count:>8,}  {'#' * round(40 * count / max(lines.values()))}"
