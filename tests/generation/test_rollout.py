import pytest
import torch

from mpgen.generation.rollout import Sampling, Script, rollout
from mpgen.generation.store import LatentStore
from mpgen.past import Past
from mpgen.sampling import SAMPLERS, euler
from mpgen.sections import ORDERS, Inverted


def sampling(sampler="euler", seed=3, steps=2, scale=4.0) -> Sampling:
    return Sampling(SAMPLERS[sampler], steps, 1.0, scale, seed)


@pytest.fixture
def packed(monkeypatch) -> list[Past]:
    """Every past whose context is asked for from now on."""
    seen, pack = [], Past.pack

    def watched(past, num_sections=1):
        seen.append(past)
        return pack(past, num_sections)

    monkeypatch.setattr(Past, "pack", watched)
    return seen


@pytest.fixture
def make(make_denoiser, latents, make_conditioning):
    """So many sections of two videos."""

    def run(num_sections, known=(), order="f1", **options):
        denoiser, conditioning = make_denoiser(), make_conditioning(4, 2)
        layout = ORDERS[order].like(denoiser.layout)
        return list(rollout(denoiser, latents(2, 1), conditioning, num_sections, sampling(**options), known, layout))

    return run


@pytest.mark.parametrize(("order", "known"), [("f1", 1), ("f1", 2), ("f1", 3), ("f0", 1), ("f0", 3)])
def test_going_on_from_known_sections_is_having_made_them(make, order, known):
    whole = make(4, order=order)
    rest = make(4 - known, known=whole[:known], order=order)
    assert len(whole) == 4
    assert len(rest) == 4 - known
    for a, b in zip(whole[known:], rest, strict=True):
        assert torch.equal(a, b)


def test_more_sections_do_not_change_the_first_ones(make):
    for a, b in zip(make(2), make(3)[:2], strict=True):
        assert torch.equal(a, b)


def test_every_section_video_and_seed_begins_from_other_noise(make):
    first, second = make(2)
    other = make(1, seed=4)[0]
    assert (first - second).abs().mean() > 0.5
    assert (first[0] - first[1]).abs().mean() > 0.5
    assert (first - other).abs().mean() > 0.5


def test_the_same_seed_gives_the_same_video_whatever_the_global_generator_says(make):
    first = make(2)
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(first, make(2), strict=True))


@pytest.mark.parametrize("seed", [-7, 2**63, 10**30])
def test_any_integer_is_a_seed(make, seed):
    assert bool(make(1, seed=seed)[0].isfinite().all())


def test_a_section_costs_as_many_forwards_as_steps(make_denoiser, latents, make_conditioning, count_calls):
    denoiser = make_denoiser()
    calls = count_calls(denoiser.backbone, "trunk")
    for sampler in ("euler", "unipc"):
        calls.clear()
        list(rollout(denoiser, latents(1, 1), make_conditioning(4), 2, sampling(sampler, steps=5)))
        assert len(calls) == 2 * 5


def test_a_section_is_the_sampler_on_what_came_before(make_denoiser, latents, make_conditioning):
    denoiser, conditioning, start = make_denoiser(), make_conditioning(4), latents(1, 1)
    first, second = rollout(denoiser, start, conditioning, 2, sampling(steps=1))
    past = denoiser.begin(start, conditioning)
    context = past.after(first).pack()
    with torch.no_grad():
        velocity = denoiser(noise_of(second.shape), torch.ones(1), context, conditioning.guided(4.0))
    torch.testing.assert_close(second, noise_of(second.shape) - velocity)


def noise_of(shape, number=1) -> torch.Tensor:
    """The noise that a section begins from."""
    from mpgen.generation.rollout import _noise

    return _noise(tuple(shape), 3, number)


def test_history_and_memory_do_not_grow_with_the_sections(make_denoiser, latents, make_conditioning, monkeypatch):
    sizes, pack = [], Past.pack

    def watched(past: Past, num_sections):
        context = pack(past, num_sections)
        recent, psi = past.history.recent, past.psi.base.tokens
        kept = recent.untyped_storage().nbytes(), psi.untyped_storage().nbytes(), len(past.psi.sections)
        sizes.append((*kept, context.tokens.shape))
        return context

    monkeypatch.setattr(Past, "pack", watched)
    list(rollout(make_denoiser(), latents(1, 1), make_conditioning(4), 8, sampling(steps=1)))
    assert len(sizes) == 8
    assert len(set(sizes[1:])) == 1


def test_nothing_made_has_a_graph(make_denoiser, latents, make_conditioning):
    made = rollout(make_denoiser(), latents(1, 1), make_conditioning(4), 2, Sampling(euler, 1, 1.0, 4.0, 0))
    for section in made:
        assert torch.is_grad_enabled()  # the caller's own gradients are its own affair
        assert not section.requires_grad


def test_a_script_that_never_changes_changes_nothing(make, make_denoiser, latents, make_conditioning, tmp_path):
    conditioning = make_conditioning(4, 2)
    script = Script([conditioning] * 3, LatentStore(tmp_path))
    scripted = list(rollout(make_denoiser(), latents(2, 1), conditioning, 3, sampling(), script=script))
    assert all(torch.equal(a, b) for a, b in zip(scripted, make(3), strict=True))


def test_at_a_change_of_prompt_the_memory_is_as_if_the_new_one_had_always_been(
    make_denoiser, latents, make_conditioning, tmp_path, packed
):
    denoiser, start = make_denoiser(), latents(1, 1)
    old, new = make_conditioning(4), make_conditioning(6, seed=1)
    known = [latents(1, 3, seed=8)]
    script = Script([old, old, new], LatentStore(tmp_path))
    made = list(rollout(denoiser, start, old, 3, sampling(), known, script=script))
    before = list(rollout(denoiser, start, old, 2, sampling(), known))
    assert all(torch.equal(a, b) for a, b in zip(made[:2], before, strict=True))

    past = denoiser.begin(start, new)
    for section in known + made[:2]:
        past = past.after(section)
    seen = packed[2]
    torch.testing.assert_close(seen.psi.base.tokens, past.psi.base.tokens)
    assert torch.equal(seen.history.recent, past.history.recent)
    with torch.no_grad():
        context = past.pack()
    fresh = sampling().sampler(
        lambda x, sigma: denoiser(x, x.new_full((1,), sigma), context, new.guided(4.0)).detach(),
        noise_of(made[2].shape, 3),
        torch.tensor([1.0, 0.5, 0.0]),
    )
    torch.testing.assert_close(made[2], fresh)


def test_an_inverted_video_begins_at_its_end_and_sees_what_follows(make_denoiser, latents, make_conditioning, packed):
    denoiser = make_denoiser()
    layout = Inverted.like(denoiser.layout)
    made = list(rollout(denoiser, latents(1, 1), make_conditioning(4), 3, sampling(), layout=layout))
    windows = [past.history.window() for past in packed]
    assert not windows[0].any()
    torch.testing.assert_close(windows[1][:, :, :3], made[0])
    torch.testing.assert_close(windows[2][:, :, :6], torch.cat([made[1], made[0]], 2))


def test_a_network_in_bf16_makes_fp32_latents_near_those_of_fp32(make_denoiser, latents, make_conditioning):
    made = [
        next(iter(rollout(make_denoiser().to(dtype), latents(1, 1), make_conditioning(4), 1, sampling())))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert made[1].dtype == torch.float32
    assert 0 < (made[0] - made[1]).abs().max() < 0.2
