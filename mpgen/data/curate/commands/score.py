"""`mpgen data score`: look at every frame of every clip once."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from mpgen.data.curate.score_files import ScoredClip, ScoreSettings, appending, file_size, read_scores, scores_folder
from mpgen.data.curate.scores import FPS, ClipScores, FrameScorer, Meter
from mpgen.data.curate.shots import ShotDetectors
from mpgen.data.curate.sources.clip import SourceClip, read_clips
from mpgen.data.curate.survey import survey_clip
from mpgen.data.parts import Part
from mpgen.errors import UserError
from mpgen.machine import check_processes
from mpgen.video.workers import Failure, run_in_workers

RETRIED = ("timeout", "crash", "unexpected")


@dataclass(frozen=True)
class FrameScorers:
    """Which scorers a clip gets; made afresh for each, in its worker."""

    shots: bool
    transnet: Path | None
    raft: Path | None

    def fresh(self) -> list[FrameScorer]:
        """
        Raises:
            UserError: a package or weights are missing.
        """
        scorers: list[FrameScorer] = [Meter()]
        if self.shots:
            scorers.append(ShotDetectors(self.transnet))
        if self.raft is not None:
            from mpgen.data.curate.optical_flow import RaftFlow  # torch, which nothing else here needs

            scorers.append(RaftFlow(self.raft))
        return scorers


def score(
    data: Path,
    /,
    part: str = "1/1",
    num_workers: int = 2,
    timeout_seconds: float | int = 600.0,
    shots: bool = True,
    transnet: Path | None = None,
    raft: Path | None = None,
    retry_failed: bool = False,
) -> None:
    """Decode each clip once and write down what there is to know: cuts, motion, freezes, black, borders.

    Slow, but done once: `mpgen data filter` decides with these numbers as often as you like. A run that was ended goes
    on where it stopped. On several machines give each its own part.

    Example: mpgen data score DATA --num_workers 16 --part 1/4

    Args:
        data: the folder that `mpgen data index` made.
        part: this machine's share of the clips, such as 1/4 to 4/4.
        num_workers: processes; each decodes one clip at a time.
        timeout_seconds: a clip that takes longer is given up and listed.
        shots: look for cuts, with PySceneDetect (the extra mpgen[data]).
        transnet: an ONNX file of TransNetV2, for cuts and dissolves that the others miss.
        raft: a state dict of torchvision's raft_large, for VBench's dynamic degree; slow without a GPU.
        retry_failed: try again the clips that hung, crashed or failed unexpectedly before.
    """
    share = Part.parse(part)
    check_processes(num_workers, "--num_workers")
    if timeout_seconds <= 0:
        raise UserError(f"--timeout_seconds {timeout_seconds:g}: wanted more than 0")
    scorers = FrameScorers(shots, transnet, raft)
    scorers.fresh()  # what is missing is said now, not by every worker
    mine = [clip for clip in read_clips(data / "index.jsonl") if share.owns(clip.uid)]
    folder = scores_folder(data, ScoreSettings(shots, _hash_of(transnet), _hash_of(raft)))
    known = read_scores(folder)
    todo = [clip for clip in mine if _is_open(clip, known.get(clip.uid), data, retry_failed)]
    print(f"{folder}: {len(mine)} clips in part {part}, {len(mine) - len(todo)} scored before")
    failures: Counter[str] = Counter()
    frames = 0
    work = partial(score_clip, data, scorers)
    running = run_in_workers(work, todo, num_workers, timeout_seconds)
    with appending(folder, share) as file, tqdm(total=len(todo), desc="score", unit="clip", disable=None) as bar:
        for clip, outcome in running:
            file.write(ScoredClip(clip.uid, file_size(data / clip.path), outcome).to_json() + "\n")
            file.flush()
            if isinstance(outcome, Failure):
                failures[outcome.reason] += 1
            else:
                frames += outcome.num_frames
            bar.set_postfix_str(f"{frames / FPS / 3600:.2f} h, {failures.total()} failed")
            bar.update()
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(failures.items()))
    unusable = f"; cannot be used: {reasons}" if reasons else ""
    print(f"scored {len(todo)} clips, {frames / FPS / 3600:.2f} h{unusable}")
    print(f"next: mpgen data filter {data}")


def score_clip(data: Path, scorers: FrameScorers, clip: SourceClip) -> ClipScores:
    """Runs in a worker."""
    return survey_clip(data / clip.path, clip.start_seconds, clip.end_seconds, scorers.fresh())


def _is_open(clip: SourceClip, scored: ScoredClip | None, data: Path, retry_failed: bool) -> bool:
    if scored is None or scored.size != file_size(data / clip.path):
        return True
    return retry_failed and isinstance(scored.outcome, Failure) and scored.outcome.reason in RETRIED


def _hash_of(weights: Path | None) -> str:
    return "" if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
