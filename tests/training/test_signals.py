"""What other signals ask of the far past."""

import pytest
import torch

from mpgen.errors import UserError
from mpgen.schedule import Sequential, Staircase
from mpgen.sections import Forward, Inverted
from mpgen.training.noise import KeyedNoise
from mpgen.training.signals import FarFrameQueries, FarRingForcing, FrameQueries, Mixture, RingForcing
from mpgen.training.targets import NextSection, Rehearsal, TrueSections

SECTIONS = 5
LAYOUT = Forward(section=3, history_4x=4, history_2x=4, history_1x=1)


@pytest.fixture
def true(latents) -> TrueSections:
    return TrueSections(latents(2, 3 * SECTIONS, seed=1), LAYOUT)


def choose(true, target, number, step=0):
    stage = list(Sequential().stages(SECTIONS))[number]
    return target.choose(true, stage, ("a", "b"), KeyedNoise(0, step))


@pytest.fixture
def begun(make_denoiser, make_conditioning, latents):
    """A denoiser, and its past after so many true sections."""

    def begin(true, number, **fields):
        denoiser = make_denoiser(layout=LAYOUT, **fields)
        past = denoiser.begin(latents(2, 1), make_conditioning(4, 2), keep=3)
        for section in range(number):
            past = past.after(true.cut(range(section, section + 1)))
        return past

    return begin


def test_the_ring_is_the_reversed_video_from_its_target_back_and_forward_again(true):
    turns = set()
    for step in range(20):
        drawn = choose(true, RingForcing(share=1.0), 3, step)
        assert torch.equal(drawn.clean, true.cut(range(3, 4)))
        turn = (8 - len(drawn.windows) + 1) // 2 - 1  # 1 + 2 (3 - turn) windows
        whole = torch.cat([true.latents[:, :, 3 * turn : 12].flip(2), true.latents[:, :, 3 * turn : 9]], 2)
        assert torch.equal(torch.cat(drawn.windows, 2), whole)
        turns.add(turn)
    assert turns == {0, 1, 2}


def test_in_a_ring_the_memory_is_made_of_it_and_the_history_is_dropped_as_often_as_told(true, begun):
    past, dropped = begun(true, 3), 0
    for step in range(20):
        drawn = choose(true, RingForcing(share=1.0, drop=0.4), 3, step)
        dropped += int(drawn.from_memory.sum())
    assert 8 <= dropped <= 24  # of 40
    context, wanted = drawn.context(past, 1), past.remembering(drawn.windows)
    torch.testing.assert_close(context.tokens, wanted.from_memory_alone(drawn.from_memory).pack().tokens)
    assert not torch.equal(context.tokens[:, : context.memory_tokens], past.psi.tokens().tokens)
    assert len(past.psi.sections) == len(wanted.psi.sections)  # as many are replayed as before


def test_without_a_memory_the_far_history_holds_the_ring(true, begun):
    past, near = begun(true, 3, memory=None), 4
    drawn = choose(true, FarRingForcing(share=1.0, drop=0.0, near=near), 3)
    far = LAYOUT.history - near
    shown = drawn.context(past, 1)
    recent = torch.cat([true.latents[:, :, 12 - far : 12].flip(2), true.latents[:, :, 9 - near : 9]], 2)
    frames = recent.split([4, 4, 1], 2)
    backbone, begin = past.backbone, 0
    for latents, factor in zip(frames[:2], (4, 2), strict=True):
        tokens = backbone.embed_history(latents, factor)
        torch.testing.assert_close(shown.tokens[:, begin : begin + tokens.shape[1]], tokens)
        begin += tokens.shape[1]


def test_frames_of_the_past_are_asked_for_by_their_times(true, begun):
    past, asked = begun(true, 3), set()
    plain = past.pack().section_indices
    for step in range(12):
        drawn = choose(true, FrameQueries(share=1.0), 3, step)
        assert drawn.from_memory.tolist() == [True, True]
        indices = drawn.context(past, 1).section_indices
        for video in range(2):
            frames = 9 + indices[video] - plain[video, 0]  # of the next section's first frame, which is frame 9
            assert torch.equal(drawn.clean[video], true.latents[video][:, frames])
            assert frames.tolist() == sorted(frames.tolist())
            asked |= set(frames.tolist())
    assert asked == set(range(9))
    never = choose(true, FrameQueries(share=0.0), 3)
    assert torch.equal(never.clean, true.cut(range(3, 4)))
    assert torch.equal(never.context(past, 1).section_indices, plain)


def test_without_a_memory_frames_are_asked_for_that_only_the_far_history_shows(true):
    near = 3
    for step in range(20):
        drawn = choose(true, FarFrameQueries(share=1.0, near=near), 4, step)
        frames = 12 + torch.arange(3) - drawn.shift
        assert int(frames.min()) >= 12 - LAYOUT.history
        assert int(frames.max()) < 12 - near
        assert drawn.kept == LAYOUT.history - near


@pytest.mark.parametrize(
    "target",
    [RingForcing(1.0), FarRingForcing(1.0), FrameQueries(1.0), FarFrameQueries(1.0)],
    ids=lambda t: type(t).__name__,
)
def test_the_first_section_and_sections_side_by_side_are_drawn_as_they_are(true, target):
    if target.needs_memory:
        assert torch.equal(choose(true, target, 0).clean, true.cut(range(0, 1)))
    stage = list(Staircase(window=2).stages(SECTIONS))[2]
    drawn = target.choose(true, stage, ("a", "b"), KeyedNoise(0, 0))
    assert torch.equal(drawn.clean, true.cut(stage.sections))
    assert not drawn.from_memory.any()


def test_a_mixture_draws_each_of_its_parts(true):
    mixture, kinds = Mixture((NextSection(), Rehearsal(1.0), FrameQueries(1.0), RingForcing(1.0))), set()
    for step in range(40):
        drawn = choose(true, mixture, 3, step)
        kinds.add((type(drawn).__name__, bool(drawn.from_memory.all())))
    assert {("Drawn", False), ("Drawn", True), ("Queried", True)} <= kinds
    assert any(name == "InRing" for name, _ in kinds)
    assert mixture.needs_memory
    assert not Mixture((FarFrameQueries(), NextSection())).needs_memory


@pytest.mark.parametrize(
    "target",
    [RingForcing(1.0), FrameQueries(1.0), Mixture((FrameQueries(1.0), Rehearsal(1.0)))],
    ids=lambda t: type(t).__name__,
)
def test_the_memory_learns_from_it(make_denoiser, losses, target):
    denoiser = make_denoiser()
    list(losses(denoiser, backward=True, target=target))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in denoiser.memory.to_tokens.parameters())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RingForcing(drop=1.5), "RingForcing drop 1.5: wanted a number in"),
        (lambda: FrameQueries(share=-1.0), "FrameQueries share -1.0"),
        (lambda: Mixture(()), "wanted at least one target"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_the_inverted_order_is_refused(latents):
    true = TrueSections(latents(2, 15), Inverted(section=3, num_sections=SECTIONS))
    with pytest.raises(UserError, match=r"wanted model\.denoiser\.order f1"):
        choose(true, RingForcing(), 2)
