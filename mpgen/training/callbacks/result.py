"""What a run on the built-in world has learned, at its end: base and result on held-out videos, against the truth."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from mpgen.atomic import replacing
from mpgen.checkpoints import begin_from
from mpgen.checkpoints.base import open_weights
from mpgen.checkpoints.sources import MEMORY
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError
from mpgen.generation.answering import answer
from mpgen.generation.rollout import Sampling
from mpgen.options import choose
from mpgen.sampling import SAMPLERS
from mpgen.text_table import aligned
from mpgen.training.callbacks.ema import EMA
from mpgen.training.parallel import Replicated
from mpgen.video.writing import VideoWriter
from mpgen.world.filmstrip import Strip, draw_strips
from mpgen.world.questions import HIDING, Question, after_hiding, from_the_start
from mpgen.world.scenes import PALETTE, SHAPES
from mpgen.world.scoring.aggregate import Estimate, summarise
from mpgen.world.scoring.video import VideoScores
from mpgen.world.settings import WorldSettings

Frames = UInt8[np.ndarray, "t h w 3"]
TRUTH, BASE, OURS = "truth", "base", "ours"
SHOWN_SECONDS = (0, 1, 5, 10, 20, 30)
SCALE, ROWS = 3, 3  # of result.mp4: how much larger its pictures are, and how many videos it shows

# A line of the table: what it says, which metric of which questions, and what guessing would give.
RECALL, LONG = "recall", "long"
LINES = (
    ("comes back after hiding: colour and shape", RECALL, "recall: colour and shape", 1 / (len(PALETTE) * len(SHAPES))),
    ("comes back after hiding: at all", RECALL, "recall: came back (seen in true frames)", None),
    ("first second: video right", LONG, "first section: video right", None),
    ("last four seconds: object found", LONG, "last four seconds: found", None),
    ("last four seconds: colour and shape", LONG, "last four seconds: colour and shape", None),
    ("background: drift (dB)", LONG, "background: drift (dB)", None),
)


class HeldOutResult(pl.Callback):
    """Asks base and result the same questions when training ends; writes result.png, result.mp4 and result.json.

    Args:
        seed: of the held-out world; nothing may be chosen by it.
        num_long: videos that go on from their start image.
        seconds: length of those.
        num_hiding: videos in which something comes back.
        hidden_seconds: shortest and longest time out of sight of that.
        sampler: one of `mpgen.sampling.SAMPLERS`.
        steps: forwards a section.
        shift: of the sampler's noise levels.
    """

    def __init__(
        self,
        seed: int = 1_000,
        num_long: int = 12,
        seconds: float = 30.0,
        num_hiding: int = 24,
        hidden_seconds: tuple[float, float] = (3.0, 7.0),
        sampler: str = "euler",
        steps: int = 10,
        shift: float = 2.5,
    ):
        if num_long < 1 or num_hiding < 1:
            raise UserError(f"num_long {num_long}, num_hiding {num_hiding}: wanted at least one video of each")
        self.seed, self.seconds, self.hidden_seconds = seed, seconds, tuple(hidden_seconds)
        self.num = {LONG: num_long, RECALL: num_hiding}
        self.sampling = Sampling(choose(SAMPLERS, sampler, f"sampler {sampler}"), steps, shift, 1.0, 0)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.datamodule.world is None:
            raise UserError("HeldOutResult scores videos of the built-in world: wanted data.world in the config")
        if not isinstance(pl_module.distribution, Replicated):
            raise UserError("HeldOutResult wants the whole network on every rank: ddp, or this callback left out")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.interrupted or trainer.received_sigterm:
            return
        began = time.monotonic()
        settings = replace(trainer.datamodule.world, seed=self.seed)
        section = pl_module.denoiser.layout.section_pixel_frames
        questions = {LONG: from_the_start(settings, self.num[LONG], section, self.seconds)}
        if hiding := self._hiding(settings, section):
            questions = {RECALL: hiding} | questions
        else:
            rank_zero_info("result: nothing is hidden in this world (data.world.families), so recall is not asked")
        rank_zero_info(
            f"\nresult: {sum(map(len, questions.values()))} held-out videos, {self.seconds:g} s long or hiding"
        )
        videos = {TRUTH: {kind: [q.frames for q in asked] for kind, asked in questions.items()}}
        for who, network in self._networks(trainer, pl_module):
            videos[who] = {kind: self._answers(trainer, network, asked) for kind, asked in questions.items()}
            rank_zero_info(f"result: {who} has answered, {time.monotonic() - began:.0f} s so far")
        if not trainer.is_global_zero:
            return
        scores = {who: _scores(questions, made) for who, made in videos.items()}
        folder = Path(trainer.default_root_dir)
        print(_table(scores), flush=True)
        for name in ("result.png", "result.mp4", "result.json"):
            print(f"  {folder / name}", flush=True)
        try:  # a trained network must not be lost because a picture could not be written
            _write_scores(scores, folder / "result.json")
            _draw(questions, videos, folder / "result.png")
            _film(questions[LONG], {who: made[LONG] for who, made in videos.items()}, folder / "result.mp4")
        except (OSError, UserError) as error:
            rank_zero_warn(f"{folder}: the result could not be written: {error}")

    def _hiding(self, settings: WorldSettings, section_frames: int) -> list[Question]:
        """Videos in which something comes back; none where the world that was trained on hides nothing."""
        if not any(settings.families.get(family) for family in HIDING):
            return []
        return after_hiding(settings, self.num[RECALL], section_frames, self.hidden_seconds)

    def _answers(self, trainer: pl.Trainer, network: Denoiser, asked: Sequence[Question]) -> list[Frames]:
        """All answers, of which every rank makes as many."""
        ranks, rank = trainer.datamodule.ranks
        own = answer(network, trainer.datamodule.encoders, asked[rank::ranks], self.sampling)
        if ranks == 1:
            return own
        parts: list[list[Frames]] = [[]] * trainer.world_size
        torch.distributed.all_gather_object(parts, own)
        parts = parts[:: trainer.world_size // ranks]  # those that share tokens have made the same
        return [parts[number % ranks][number // ranks] for number in range(len(asked))]

    def _networks(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[tuple[str, Denoiser]]:
        """Who answers: what training began from, with a memory if it had one, and the averaged weights."""
        if pl_module.init_from is not None:
            begun = replace(pl_module.denoiser_config, lora=None)
            if not any(name.startswith(MEMORY) for name in open_weights(pl_module.init_from)):
                begun = replace(begun, memory=None)
            base, _ = begin_from(pl_module.init_from, begun, pl_module.seed)
            yield BASE, base.float().eval().to(pl_module.device)
        ema = next((c for c in trainer.callbacks if isinstance(c, EMA) and c.shadow), None)
        pl_module.eval()
        if ema is None:
            yield OURS, pl_module.denoiser
        else:
            with ema.averaged(pl_module):
                yield OURS, pl_module.denoiser
        pl_module.train()


Scores = Mapping[str, Mapping[str, Estimate]]  # kind of question, metric


def _scores(questions: Mapping[str, Sequence[Question]], made: Mapping[str, Sequence[Frames]]) -> Scores:
    scored: dict[str, list[VideoScores]] = {
        kind: [question.score(video) for question, video in zip(asked, made[kind], strict=True)]
        for kind, asked in questions.items()
    }
    return {
        kind: {metric: families["all"] for metric, families in summarise(videos).items()}
        for kind, videos in scored.items()
    }


def _table(scores: Mapping[str, Scores]) -> str:
    rows = [
        [says, *(_cell(scores[who][kind].get(metric)) for who in scores), "-" if chance is None else f"{chance:.2f}"]
        for says, kind, metric, chance in LINES
        if all(kind in of for of in scores.values())
    ]
    return aligned([["held-out videos", *scores, "chance"], *rows])


def _cell(value: Estimate | None) -> str:
    return "-" if value is None else f"{value.mean:.2f} ({value.count})"


def _write_scores(scores: Mapping[str, Scores], path: Path) -> None:
    record = {
        who: {kind: {metric: vars(value) for metric, value in values.items()} for kind, values in kinds.items()}
        for who, kinds in scores.items()
    }
    with replacing(path) as half_written:
        half_written.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _draw(
    questions: Mapping[str, Sequence[Question]], videos: Mapping[str, Mapping[str, Sequence[Frames]]], path: Path
) -> None:
    """Rows for who made it; what was given has a frame around it."""
    strips = []
    for kind, asked in questions.items():
        for number, question in list(enumerate(asked))[:2]:
            shown = _shown(question)
            for who in videos:
                strips.append(
                    Strip(
                        label=who,
                        frames=[videos[who][kind][number][frame] for frame in shown],
                        titles=[f"{frame / question.truth.fps:.1f} s" for frame in shown],
                        marks=["grey" if frame < question.given else "" for frame in shown],
                    )
                )
    draw_strips(strips, path)


def _shown(question: Question) -> list[int]:
    """Six frames: of a long video at fixed times; else what was seen, when it was hidden, and how it comes back."""
    fps, last = question.truth.fps, len(question.frames) - 1
    if question.given == 1:
        return [min(round(seconds * fps), last) for seconds in SHOWN_SECONDS]
    span = next(span for span in question.truth.hidden_spans if span.first_seen >= question.given)
    seen = int(np.argmax(question.truth.objects[span.object_id].visible[: span.first_hidden]))
    middle = (span.first_hidden + span.first_seen) // 2
    return [seen, middle, question.given - 1, *np.linspace(span.first_seen + 2, last, 3).round().astype(int).tolist()]


def _film(questions: Sequence[Question], videos: Mapping[str, Sequence[Frames]], path: Path) -> None:
    """Videos below each other, who made them side by side."""
    gap = 255 * np.ones((len(questions[0].frames), questions[0].truth.size_px, 2, 3), np.uint8)
    rows = []
    for number in range(min(ROWS, len(questions))):
        parts = [part for who in videos for part in (videos[who][number], gap)]
        rows.append(np.concatenate(parts[:-1], 2))
    film = np.concatenate(rows, 1).repeat(SCALE, 1).repeat(SCALE, 2)
    film = film[:, : film.shape[1] // 2 * 2, : film.shape[2] // 2 * 2]
    with VideoWriter(path, questions[0].truth.fps, *film.shape[1:3], metadata={"title": " | ".join(videos)}) as writer:
        for frame in film:
            writer.write(np.ascontiguousarray(frame))
