"""One row with one seed is asked everything: what it remembers, with what controls, and how its own videos drift.

What is written are the answers, video by video, never their means: a table is computed from them (`tables`).
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mpgen.checkpoints import LoadedModel
from mpgen.conditioning import Conditioning
from mpgen.generation.answering import answer
from mpgen.generation.rollout import Sampling
from mpgen.lab.questions import SEED, Asked
from mpgen.memory.base import Psi
from mpgen.past import Past
from mpgen.sampling import SAMPLERS
from mpgen.tensors import Latents
from mpgen.world.questions import Question, after_hiding, from_the_start
from mpgen.world.scoring.video import VideoScores
from mpgen.world.settings import WorldSettings

DRAWS = 4  # at sigma 1 the answer should not depend on the noise; the mean over a few draws sees to it
LONG_SECONDS, NUM_LONG = 30.0, 16
RETURNS_HIDDEN, NUM_RETURNS = (3.4, 7.0), 16
Begin = Callable[[Asked], Psi]
AS_IT_IS = "as it is"
STEPS, SHIFT = 10, 2.5  # of the sampler, as `mpgen generate` takes


def _psi(begin: Begin, asked: Asked, sections: Sequence[Latents]) -> Psi:
    """psi of a video of which these sections were seen."""
    psi = begin(asked)
    for section in sections:
        psi = psi.after(section)
    return psi


def _shuffled(sections: Sequence[Latents]) -> list[Latents]:
    mixed = list(sections)
    random.Random(0).shuffle(mixed)
    return mixed


# What psi is made from, given how to begin one, the question, and another question of its kind. None: there is no psi.
CONTROLS: MappingProxyType[str, Callable[[Begin, Asked, Asked], Psi | None]] = MappingProxyType(
    {
        AS_IT_IS: lambda begin, own, other: _psi(begin, own, own.sections),
        "another video's psi": lambda begin, own, other: _psi(begin, other, other.sections),
        "without the windows that showed it": lambda begin, own, other: _psi(begin, own, own.sections[-own.blind :]),
        "frozen after the first window": lambda begin, own, other: _psi(begin, own, own.sections[:1]),
        "windows shuffled": lambda begin, own, other: _psi(begin, own, _shuffled(own.sections)),
        "without psi": lambda begin, own, other: None,
    }
)
CONTROLLED = "same place"  # the kind of question that the controls are run on


@torch.no_grad()
def recall(model: LoadedModel, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """The answers to all questions; a network with a memory gets those of `CONTROLLED` with every control too."""
    answers = []

    def begin(question: Asked) -> Psi:
        return _past(model, replace(question, sections=())).psi

    for number, question in enumerate(tqdm(asked, "recall", leave=False)):
        past = _past(model, question)
        same_kind = [other for other in asked if other.kind == question.kind and other is not question] or [question]
        other = same_kind[number % len(same_kind)]
        controlled = past.psi is not None and question.kind == CONTROLLED
        for control in CONTROLS if controlled else (AS_IT_IS,):
            seen = replace(past, psi=CONTROLS[control](begin, question, other)) if controlled else past
            chosen, similarity = _answer(model, seen, question)
            answers.append(
                {
                    "kind": question.kind,
                    "name": question.name,
                    "control": control,
                    "hidden_seconds": round(question.hidden_seconds, 3),
                    "objects": question.objects,
                    "choices": len(question.identities),
                    "truth": list(question.identities[question.truth]),
                    "answer": list(question.identities[chosen]),
                    "similarity": round(similarity, 4),
                }
            )
    return answers


def _conditioning(model: LoadedModel, question: Asked) -> Conditioning:
    return model.encoders.conditioning([question.caption], question.image).guided(model.guidance_scale)


def _past(model: LoadedModel, question: Asked) -> Past:
    past = model.denoiser.begin(question.start, _conditioning(model, question))
    for section in question.sections:
        past = past.after(section)
    return past


def _answer(model: LoadedModel, past: Past, question: Asked) -> tuple[int, float]:
    """Which identity the mean of the next section is nearest to, and the cosine that decided."""
    history = partial(torch.randn, past.history.recent.shape, generator=torch.Generator().manual_seed(0))
    context, conditioning = past.at(torch.ones(1), history).pack(), _conditioning(model, question)
    shape = (1, question.start.shape[1], model.denoiser.layout.section, *question.start.shape[3:])
    means = []
    for seed in range(DRAWS):
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        means.append(noise - model.denoiser(noise, torch.ones(1), context, conditioning).float())
    expected = torch.stack(means).mean(0).flatten() - question.empty
    similarity = torch.cosine_similarity(question.candidates, expected[None])
    return int(similarity.argmax()), float(similarity.max())


def own_videos(model: LoadedModel, settings: WorldSettings, most: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """What it makes by itself: thirty seconds from a start image, and what comes back after a curtain."""
    asked = _asked_for_videos(settings, model.denoiser.layout.section_pixel_frames, most)
    sampling = Sampling(SAMPLERS["euler"], STEPS, SHIFT, model.guidance_scale, 0)
    made = {kind: answer(model.denoiser, model.encoders, questions, sampling) for kind, questions in asked.items()}
    return _scored(asked, made)


def floors(
    settings: WorldSettings, section_frames: int, most: int | None = None
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What the truth scores, and a frozen last given frame."""
    asked = _asked_for_videos(settings, section_frames, most)
    return {
        "truth": _scored(asked, {kind: [q.frames for q in questions] for kind, questions in asked.items()}),
        "frozen": _scored(asked, {kind: [_frozen(q) for q in questions] for kind, questions in asked.items()}),
    }


def _asked_for_videos(settings: WorldSettings, section: int, most: int | None) -> dict[str, list[Question]]:
    settings = replace(settings, seed=SEED, open_share=0.0)
    return {
        "long": from_the_start(settings, min(most or NUM_LONG, NUM_LONG), section, LONG_SECONDS),
        "returns": after_hiding(settings, min(most or NUM_RETURNS, NUM_RETURNS), section, RETURNS_HIDDEN),
    }


def _scored(
    asked: Mapping[str, Sequence[Question]], made: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, list[dict[str, Any]]]:
    return {
        kind: [_plain(question.score(video)) for question, video in zip(questions, made[kind], strict=True)]
        for kind, questions in asked.items()
    }


def _frozen(question: Question) -> np.ndarray:
    frames, given = question.frames, question.given
    return np.concatenate([frames[:given], np.repeat(frames[given - 1 : given], len(frames) - given, 0)])


def _plain(scores: VideoScores) -> dict[str, Any]:
    """What the tables need of a video's scores."""

    def share(values: list[float]) -> float | None:
        return round(float(np.mean(values)), 4) if values else None

    return {
        "name": scores.name,
        "found": [share([obj.found for obj in section]) for section in scores.sections],
        "identified": [share([obj.identified for obj in section]) for section in scores.sections],
        "position": [share([obj.position_error_diameters for obj in section]) for section in scores.sections],
        "moved": share([float(obj.moved) for obj in scores.first_section if obj.moved is not None]),
        "first_section_right": scores.first_section_right,
        "background": [_number(value) for value in _by_section(scores)],
        "returned": [bool(r.came_back) for r in scores.recalls if r.witnessed],
        "returned_right": [bool(r.identity_right) for r in scores.recalls if r.witnessed],
    }


def _by_section(scores: VideoScores) -> list[float]:
    psnr, length = scores.background_psnr, scores.section_frames
    parts = [psnr[i : i + length] for i in range(0, len(psnr), length)]
    return [float(np.mean(part[np.isfinite(part)])) if np.isfinite(part).any() else float("nan") for part in parts]


def _number(value: float) -> float | None:
    return round(value, 2) if np.isfinite(value) else None


def ask_all(
    model: LoadedModel, asked: Sequence[Asked], settings: WorldSettings, most: int | None = None
) -> dict[str, Any]:
    """All answers of a model, and what it is."""
    began = time.monotonic()
    answers = recall(model, asked)
    videos = own_videos(model, settings, most)
    context = _past(model, asked[0]).pack()
    memory = model.denoiser.memory
    return {
        "recall": answers,
        "videos": videos,
        "context_tokens": int(context.tokens.shape[1]),
        "parameters": sum(p.numel() for p in model.denoiser.parameters()),
        "memory_parameters": 0 if memory is None else sum(p.numel() for p in memory.parameters()),
        "asking_seconds": round(time.monotonic() - began, 1),
    }
