"""Memories beside the paper's: what each keeps, and that all of them can learn."""

import pytest
import torch

from mpgen.errors import UserError
from mpgen.memory.bank import PromptRetrieved, Routed, SinkAndTopK
from mpgen.memory.far import EmaSink, FarHistory
from mpgen.memory.semanticpack import SemanticPackConfig
from mpgen.memory.structures import Forgetting, Recurrent

PATCH = (3, 2, 2)  # one time step a section, 3 x 5 tokens of it
STEP = 15


def semantic(structure):
    return SemanticPackConfig(memorize_layers=1, window_patch=PATCH, mlp_ratio=2.0, structure=structure)


MEMORIES = {
    "sink and top k": SinkAndTopK(PATCH, steps=4, top_k=7),
    "routed": Routed(PATCH, steps=4, top_k=2),
    "by prompt": PromptRetrieved(PATCH, steps=4, top_k=2),
    "far history": FarHistory(windows=3),
    "ema sink": EmaSink(PATCH, near=1),
    "recurrent": semantic(Recurrent()),
    "forgetting": semantic(Forgetting()),
}
every = pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)


@pytest.fixture
def begin(make_denoiser, make_conditioning, latents):
    """The past of two videos with a memory."""

    def begin(memory, keep=0, std=0.05, text=(4, 2), **options):
        denoiser = make_denoiser(std, memory=memory)
        return denoiser, denoiser.begin(latents(2, 1), make_conditioning(*text, **options), keep)

    return begin


@pytest.fixture
def after(latents):
    def after(past, *seeds):
        for seed in seeds:
            past = past.after(latents(2, 3, seed=seed))
        return past

    return after


@every
def test_gradients_reach_all_of_it_through_past_sections(begin, after, memory):
    denoiser, past = begin(memory, keep=6)
    after(past, 1, 2, 3, 4, 5).psi.tokens().tokens.square().mean().backward()
    unreached = {name for name, p in denoiser.memory.named_parameters() if p.grad is None or not p.grad.any()}
    assert unreached <= {"text_in.weight", "text_in.bias", "image_in.weight", "image_in.bias"}  # a unit starts without
    assert not unreached or memory is MEMORIES["recurrent"]


@every
def test_it_changes_the_velocity_and_stays_as_large_as_it_is(begin, after, memory, latents, make_conditioning):
    denoiser, past = begin(memory)
    hidden = torch.tensor([True, True])

    def velocity(past):
        context = past.from_memory_alone(hidden).pack()
        return denoiser(latents(2, 3, seed=9), torch.tensor([0.5, 0.9]), context, make_conditioning(4, 2))

    one, other = after(past, 1, 2, 3, 4, 5), after(past, 1, 7, 3, 4, 5)
    assert velocity(past).isfinite().all()  # of the start image alone
    assert not torch.allclose(velocity(one), velocity(after(past, 1, 2, 6, 4, 8)))
    later = after(one, 6, 7, 8)
    assert later.psi.read().tokens.shape == after(later, 9).psi.read().tokens.shape
    assert later.pack().tokens.shape == after(later, 9).pack().tokens.shape == one.pack().tokens.shape
    assert other.psi.read().tokens.shape == one.psi.read().tokens.shape


@every
def test_a_video_does_not_depend_on_those_beside_it(begin, after, memory, latents, make_conditioning):
    _, past = begin(memory, padded_to=6)
    denoiser, alone = begin(memory)
    alone = denoiser.begin(latents(2, 1)[:1], make_conditioning(4, 2, padded_to=6).cut(slice(1)))
    for seed in (1, 2, 3):
        alone = alone.after(latents(2, 3, seed=seed)[:1])
    together, single = after(past, 1, 2, 3).psi.tokens(), alone.psi.tokens()
    torch.testing.assert_close(together.tokens[:1], single.tokens)
    torch.testing.assert_close(together.rotation[:1], single.rotation)


def embedded(denoiser, latents, seed):
    return denoiser.memory.embedding.tokens(latents(2, 3, seed=seed))


def test_the_sink_stays_and_the_tokens_most_like_the_newest_window_are_found(begin, after, latents):
    denoiser, past = begin(SinkAndTopK(PATCH, steps=5, sink=1, top_k=STEP), std=0)
    shown = after(past, 1, 2, 3, 4, 2).psi.tokens()  # the newest window is the second one again
    assert torch.equal(shown.tokens, torch.cat([embedded(denoiser, latents, 1), embedded(denoiser, latents, 2)], 1))
    rotation = after(past, 1).psi.tokens().rotation
    assert torch.equal(shown.rotation, torch.cat([rotation, rotation], 1))


def test_the_oldest_but_the_sink_is_evicted(begin, after, latents):
    denoiser, past = begin(SinkAndTopK(PATCH, steps=3, sink=1))
    bank = after(past, 1, 2, 3, 4, 5).psi.read().tokens
    assert torch.equal(bank, torch.cat([embedded(denoiser, latents, seed) for seed in (1, 4, 5)], 1))


def test_a_chunk_is_routed_to_by_the_mean_of_its_tokens(begin, after, latents):
    denoiser, past = begin(Routed(PATCH, steps=5, top_k=1), std=0)
    means = {seed: embedded(denoiser, latents, seed).mean(1).detach() for seed in (1, 2, 3, 4)}
    best = [max((1, 2, 3), key=lambda seed: float((means[seed] * means[4]).sum(1)[video])) for video in (0, 1)]
    shown = after(past, 1, 2, 3, 4).psi.tokens().tokens
    for video, seed in enumerate(best):
        assert torch.equal(shown[video], embedded(denoiser, latents, seed)[video])


def test_the_prompt_decides_which_window_is_found(begin, after, latents):
    memory = PromptRetrieved(PATCH, steps=5, top_k=1)
    found = set()
    for seed in range(6):
        denoiser, past = begin(memory, seed=seed)
        shown = after(past, 1, 2, 3).psi.tokens().tokens[0]
        which = [n for n in (1, 2, 3) if torch.allclose(shown, embedded(denoiser, latents, n)[0])]
        assert len(which) == 1
        found.add(which[0])
    assert len(found) > 1
    loud, quiet = (begin(memory, padded_to=9, padding=padding)[1].psi.read().tokens for padding in (9.0, -5.0))
    assert torch.equal(loud, quiet)


def test_far_history_is_the_backbones_coarsest_embedding_of_the_latest_windows(begin, after, latents):
    denoiser, past = begin(FarHistory(windows=2), std=0)
    shown = after(past, 1, 2, 3).psi.tokens()
    wanted = [denoiser.backbone.embed_history(latents(2, 3, seed=seed), 4) for seed in (2, 3)]
    torch.testing.assert_close(shown.tokens, torch.cat(wanted, 1))
    per_window = wanted[0].shape[1]
    assert not torch.allclose(shown.rotation[:, :per_window], shown.rotation[:, per_window:])  # their times differ


def test_what_leaves_the_short_term_context_is_folded_into_the_sink(begin, after, latents):
    denoiser, past = begin(EmaSink(PATCH, decay=0.75, near=2))
    start = denoiser.memory.embedding.tokens(latents(2, 1))
    torch.testing.assert_close(after(past, 1, 2).psi.tokens().tokens, start)
    first = 0.75 * start + 0.25 * embedded(denoiser, latents, 1)
    torch.testing.assert_close(after(past, 1, 2, 3).psi.tokens().tokens, first)
    second = 0.75 * first + 0.25 * embedded(denoiser, latents, 2)
    torch.testing.assert_close(after(past, 1, 2, 3, 4).psi.tokens().tokens, second)


def test_a_recurrent_unit_begins_by_keeping_what_the_start_image_does_not_show(begin, latents):
    denoiser, past = begin(semantic(Recurrent()), std=0)
    start, new = latents(2, 1).expand(-1, -1, 3, -1, -1), latents(2, 3, seed=5)
    torch.testing.assert_close(past.psi.read().tokens, denoiser.memory.memorize(latents(2, 1)).tokens)
    seen = past.after(new)
    window = denoiser.memory.memorize(new).tokens
    assert (seen.psi.read().tokens - window).abs().mean() < 0.01 * window.abs().mean()  # all of it is new
    again = seen.after(start).psi.read().tokens
    assert (again - window).abs().mean() < 0.1 * window.abs().mean()


def test_a_memory_that_can_forget_begins_as_structure_a_and_can_be_emptied(begin, after):
    denoiser, past = begin(semantic(Forgetting()), std=0)
    paper, own = begin(SemanticPackConfig(memorize_layers=1, window_patch=PATCH, mlp_ratio=2.0), std=0)
    denoiser.load_state_dict(paper.state_dict() | {n: t for n, t in denoiser.state_dict().items() if "squeeze" in n and
                                                   n.rpartition(".")[0].endswith(("keep", "squeeze"))
                                                   and "novelty" not in n})  # fmt: skip
    past, own = (d.begin(past.history.start, past.psi.conditioning) for d in (denoiser, paper))
    wanted = after(own, 1, 2).psi.read().tokens
    torch.testing.assert_close(after(past, 1, 2).psi.read().tokens, wanted, atol=0.05, rtol=0.05)
    with torch.no_grad():
        denoiser.memory.squeeze.keep.bias.fill_(-30.0)
    torch.testing.assert_close(after(past, 1, 2).psi.read().tokens, after(past, 7, 2).psi.read().tokens)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SinkAndTopK(steps=3, sink=3), "memory.sink 3 of 3 steps"),
        (lambda: FarHistory(windows=0), "memory.windows 0"),
        (lambda: EmaSink(decay=1.0), "memory.decay 1.0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()
