"""Who watches a video is told of every forward, and of what a section reads; nothing else changes."""

import io
import re

import pytest
import torch
from tqdm import tqdm

from mpgen.attention import attend
from mpgen.backbones.base import Context
from mpgen.generation.reading import CONDITION, SECTION, Reader
from mpgen.generation.rollout import Sampling, rollout
from mpgen.generation.watching import Steps, Watcher
from mpgen.sampling import euler
from mpgen.schedule import Staircase


class Notes(Watcher):
    wants_readings = True

    def __init__(self):
        self.estimates, self.readings = [], []

    def denoised(self, sections, clean):
        self.estimates.append((sections, clean()))

    def read(self, sections, reading):
        self.readings.append((sections, reading))


def made(denoiser, latents, conditioning, watcher=None, steps=3):
    sampling = Sampling(euler, steps, 1.0, 4.0, 0)
    return list(rollout(denoiser, latents(1, 1), conditioning, 3, sampling, watcher=watcher))


def test_a_watcher_sees_every_forward_and_the_last_is_the_section(make_denoiser, latents, make_conditioning):
    notes = Notes()
    sections = made(make_denoiser(), latents, make_conditioning(4), notes)
    assert [place for place, _ in notes.estimates] == [range(n, n + 1) for n in range(3) for _ in range(3)]
    for number, section in enumerate(sections):
        assert torch.allclose(notes.estimates[3 * number + 2][1], section, atol=1e-5)
    alone = made(make_denoiser(), latents, make_conditioning(4))
    assert all(torch.equal(a, b) for a, b in zip(sections, alone, strict=True))


def test_shares_sum_to_one_and_name_all_parts(make_denoiser, latents, make_conditioning):
    notes = Notes()
    made(make_denoiser(), latents, make_conditioning(4), notes)
    assert [place for place, _ in notes.readings] == [range(0, 1), range(1, 2), range(2, 3)]
    for _, reading in notes.readings:
        assert [*reading.parts] == ["memory", "history_4x", "history_2x", "start", "history_1x", SECTION, CONDITION]
        assert sum(reading.parts.values()) == pytest.approx(1, abs=1e-4)
        assert sum(reading.memory) == pytest.approx(reading.parts["memory"], abs=1e-5)
        assert min(reading.parts.values()) > 0
    assert "memory" not in _reading_of(make_denoiser(memory=None), latents, make_conditioning(4)).parts


def test_sections_side_by_side_read_together(make_denoiser, latents, make_conditioning):
    notes = Notes()
    made(make_denoiser(schedule=Staircase(window=2)), latents, make_conditioning(4), notes, steps=2)
    assert [place for place, _ in notes.readings] == [range(0, 1), range(0, 2), range(1, 3), range(2, 3)]


def _reading_of(denoiser, latents, conditioning):
    notes = Notes()
    made(denoiser, latents, conditioning, notes)
    return notes.readings[0][1]


@pytest.mark.parametrize("masked", [None, "keys", "pairs"])
def test_shares_are_those_of_a_softmax(masked):
    """Three memory tokens, two of history, four of a section and two of text; two layers of one and three heads."""
    generator = torch.Generator().manual_seed(0)
    tokens, own, text = 5, 4, 2
    parts = (("history_4x", 0), ("start", 1), ("history_1x", 1))
    context = Context(
        torch.zeros(1, tokens, 6), torch.zeros(1, tokens, 4), torch.ones(1, tokens, dtype=torch.bool),
        torch.arange(own)[None], memory_tokens=3, parts=parts,
    )  # fmt: skip
    mask = None
    if masked is not None:
        mask = torch.ones(1, 1, 1 if masked == "keys" else tokens + own + text, tokens + own + text, dtype=torch.bool)
        mask[..., 1] = False
    reader, wanted = Reader(context, own), []
    with reader.reading():
        for heads in (1, 3):
            query, key, value = (torch.randn(1, heads, tokens + own + text, 8, generator=generator) for _ in range(3))
            attend(query, key, value, mask)
            weights = query @ key.transpose(2, 3) / 8**0.5
            weights = weights if mask is None else weights.masked_fill(~mask, -torch.inf)
            wanted.append(weights.softmax(-1)[0, :, tokens : tokens + own].mean((0, 1)))
        attend(query[:, :, :3], key[:, :, :3], value[:, :, :3], None)  # of text alone: left out
    shares = torch.stack(wanted).mean(0)
    seen = reader.seen
    assert seen.memory == pytest.approx(shares[:3].tolist(), abs=1e-6)
    assert [*seen.parts.values()] == pytest.approx(
        [*(float(shares[a:b].sum()) for a, b in ((0, 3), (3, 3), (3, 4), (4, 5), (5, 9), (9, 11)))], abs=1e-6
    )
    attend(query, key, value, mask)  # afterwards nobody looks
    assert reader.layers == 2


def test_where_no_layer_ran_nothing_was_read():
    none = torch.zeros(1, 2, 6)
    context = Context(none, none, torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.long))
    assert Reader(context, 3).seen is None


def test_a_progress_bar_shows_the_steps_of_the_present_section_and_tells_on(make_denoiser, latents, make_conditioning):
    notes, said = Notes(), io.StringIO()
    with tqdm(total=3, file=said, mininterval=0) as bar:
        made(make_denoiser(), latents, make_conditioning(4), Steps(bar, 3, notes))
    shown = re.findall(r"step \d of \d", said.getvalue())
    assert shown[:9] == [f"step {step} of 3" for step in (1, 2, 3)] * 3
    assert (len(notes.estimates), len(notes.readings)) == (9, 3)
