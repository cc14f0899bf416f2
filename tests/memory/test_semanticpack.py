from dataclasses import replace

import pytest
import torch

from mpgen.errors import UserError
from mpgen.memory.base import Psi
from mpgen.memory.semanticpack import SemanticPack, SemanticPackConfig
from mpgen.memory.squeeze import Squeeze
from mpgen.memory.structures import (
    ConditioningAnchor,
    MovingAverage,
    Reminded,
    StructureA,
    StructureB,
    StructureC,
    ZeroAnchor,
)
from mpgen.tensors import MaskedTokens

STRUCTURES = [StructureA(), StructureB(), StructureC()]


@pytest.fixture
def make_pack(small_config, perturb):
    def make(structure=StructureA(), anchor=ConditioningAnchor(), std: float = 0.05) -> SemanticPack:  # noqa: B008 - frozen
        torch.manual_seed(0)
        config = replace(small_config.memory, structure=structure, anchor=anchor)
        return perturb(SemanticPack(config, small_config.backbone), std)

    return make


def folded(pack, conditioning, start, windows):
    """The paper's recursion as it is written."""
    conditioning = pack.conditioned(conditioning, start)
    memory = pack.seed(conditioning, start)
    for window in windows:
        memory = pack.update(memory, window, conditioning)
    return memory


def test_windows_in_one_batch_make_the_same_memory_as_one_after_another(make_pack, make_conditioning, latents):
    pack, start = make_pack(), latents(2, 1, seed=9)
    windows = [latents(2, 3, seed=number) for number in range(3)]
    conditioning = pack.conditioned(make_conditioning(4, 2), start)
    together = [psi.tokens for psi in pack.updates(pack.seed(conditioning, start), windows, conditioning)]
    assert len(together) == 3
    torch.testing.assert_close(together[-1], folded(pack, make_conditioning(4, 2), start, windows).tokens)


def test_it_begins_by_keeping_what_looks_new_where_it_was_seen(small_config, make_pack, make_conditioning, latents):
    """Windows are embedded as the start image is; a place that shows the start image again keeps what it knew."""
    pack = make_pack(std=0.0)
    backbone = small_config.backbone.build()
    embed = backbone.history_kernel(1)
    embed.reset_parameters()
    pack.initialise_from(backbone)
    start, view = latents(2, 1, seed=1)[..., :4, :6], latents(2, 1, seed=2)[..., :4, :6]
    patches = embed(view)  # the mean over a token's patches
    token = torch.nn.functional.avg_pool3d(patches, (1, 2, 3)).flatten(2).transpose(1, 2)
    again, seen = start.repeat(1, 1, 2, 1, 1), view.repeat(1, 1, 2, 1, 1)
    torch.testing.assert_close(pack.memorize(seen).tokens, token)
    conditioning = pack.conditioned(make_conditioning(4, 2), start)
    before = pack.seed(conditioning, start)
    opened = pack.update(before, seen, conditioning)
    closed = opened
    for _ in range(4):
        closed = pack.update(closed, again, conditioning)
    assert torch.cosine_similarity(opened.tokens, token, dim=-1).min() > 0.97
    assert torch.cosine_similarity(closed.tokens, token, dim=-1).min() > 0.8
    torch.testing.assert_close(pack.tokens(closed, start).tokens, closed.tokens)


def test_no_token_becomes_larger_than_those_that_it_is_made_from(make_pack, make_conditioning, latents):
    pack = make_pack(std=1.0)
    memory, window = pack.seed(make_conditioning(4), latents(1, 1)), latents(1, 3)
    largest = max(tokens.square().mean(-1).max() for tokens in (memory.tokens, pack.memorize(window).tokens))
    after = pack.update(memory, window, make_conditioning(4)).tokens
    assert after.square().mean(-1).max() <= 1.001 * largest


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_memory_keeps_its_size_however_long_the_video(make_pack, make_conditioning, latents, structure):
    pack, conditioning = make_pack(structure, std=0.2), make_conditioning(4)
    memory, sizes = pack.seed(conditioning, latents(1, 1)), []
    with torch.no_grad():
        for number in range(200):
            memory = pack.update(memory, 3 * latents(1, 3, seed=number), conditioning)
            sizes.append(memory.tokens.norm().item())
    assert max(sizes[100:]) < 1.5 * max(sizes[:20])


def test_structures_and_anchors_share_one_state_dict_but_for_what_windows_know_of_the_start(make_pack):
    shapes = [
        {
            name: tensor.shape
            for name, tensor in make_pack(structure, anchor).state_dict().items()
            if name != "squeeze.novelty"
        }
        for structure in STRUCTURES
        for anchor in (ConditioningAnchor(), ZeroAnchor())
    ]
    assert all(other == shapes[0] for other in shapes)


@pytest.mark.parametrize(("structure", "tokens"), [(StructureA(), 8), (StructureB(), 4 + 5), (StructureC(), 4 + 5 + 4)])
def test_the_memory_keeps_its_number_of_tokens_from_the_first_section_on(
    make_pack, make_conditioning, latents, structure, tokens
):
    pack = make_pack(structure)  # windows of 3 frames and 6 x 10 latents: 2 x 2 x 2 patches; 4 image and 5 text tokens
    memory = folded(pack, make_conditioning(5, 3), latents(2, 1), [latents(2, 3)])
    for number in range(3):
        assert memory.tokens.shape == (2, tokens, 32)
        assert memory.mask.shape == (2, tokens)
        memory = pack.update(memory, latents(2, 3, seed=number), make_conditioning(5, 3))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_memory_depends_on_the_prompt_the_image_and_every_window(make_pack, make_conditioning, latents, structure):
    pack = make_pack(structure)
    windows = [latents(1, 3, seed=1), latents(1, 3, seed=2)]
    before = folded(pack, make_conditioning(4), latents(1, 1), windows).tokens
    others = [
        folded(pack, make_conditioning(4, seed=9), latents(1, 1), windows),
        folded(pack, make_conditioning(4), latents(1, 1), [latents(1, 3, seed=9), windows[1]]),
        folded(pack, make_conditioning(4), latents(1, 1), [windows[0], latents(1, 3, seed=9)]),
        folded(pack, make_conditioning(4), latents(1, 1), windows[::-1]),
    ]
    assert all((other.tokens - before).abs().max() > 1e-6 for other in others)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_text_padding_does_not_matter_to_the_memory(make_pack, make_conditioning, latents, structure):
    pack, windows = make_pack(structure), [latents(2, 3, seed=1)]
    tight = folded(pack, make_conditioning(4, 2), latents(2, 1), windows)
    loud = folded(pack, make_conditioning(4, 2, padding=-70.0), latents(2, 1), windows)
    assert torch.equal(loud.mask, tight.mask)
    torch.testing.assert_close(loud.tokens[tight.mask], tight.tokens[tight.mask])
    alone = make_conditioning(4, 2)
    short = type(alone)(alone.text[1:, :2], alone.text_mask[1:, :2], alone.pooled[1:], alone.image[1:])
    wanted = folded(pack, short, latents(2, 1)[1:], [windows[0][1:]])
    torch.testing.assert_close(tight.tokens[1][tight.mask[1]], wanted.tokens[0][wanted.mask[0]])


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_zero_anchor_forgets_prompt_and_image_but_not_the_windows(make_pack, make_conditioning, latents, structure):
    pack = make_pack(structure, ZeroAnchor())
    before = folded(pack, make_conditioning(4), latents(1, 1), [latents(1, 3)]).tokens
    other_prompt = folded(pack, make_conditioning(4, seed=9), latents(1, 1), [latents(1, 3)]).tokens
    other_window = folded(pack, make_conditioning(4), latents(1, 1), [latents(1, 3, seed=9)]).tokens
    torch.testing.assert_close(other_prompt, before)
    assert (other_window - before).abs().max() > 1e-6


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("keep", [0, 1, 2, 3, 4])
def test_reading_the_memory_is_the_recursion_however_many_windows_are_replayed(
    make_pack, make_conditioning, latents, structure, keep
):
    pack, conditioning, start = make_pack(structure), make_conditioning(4, 2), latents(2, 1)
    memory, windows = Psi.begin(pack, conditioning, start, keep), []
    for number in range(5):
        wanted = folded(pack, conditioning, start, windows)
        torch.testing.assert_close(memory.read().tokens, wanted.tokens)
        windows.append(latents(2, 3, seed=number))
        memory = memory.after(windows[-1])


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_gradient_reaches_the_last_windows_and_no_further(make_pack, make_conditioning, latents, keep, monkeypatch):
    pack = make_pack()
    replayed = []
    embed = pack.window_embed.forward

    def watched(patches):
        out = embed(patches)
        if out.requires_grad:
            replayed.extend(patches.split(1))  # windows of a video come as one batch
        return out

    monkeypatch.setattr(pack.window_embed, "forward", watched)
    memory, windows = Psi.begin(pack, make_conditioning(4), latents(1, 1), keep), []
    for number in range(4):
        windows.append(latents(1, 3, seed=number).requires_grad_())
        memory = memory.after(windows[-1])
    replayed.clear()
    memory.read().tokens.square().mean().backward() if keep else memory.read()
    assert len(replayed) == keep
    for patches, window in zip(replayed, windows[4 - keep :], strict=True):
        assert torch.equal(patches[:, :, :3, :6, :10], window)
    assert all(window.grad is None for window in windows)
    assert (pack.window_embed.weight.grad is not None) == (keep > 0)


def test_the_gradient_is_that_of_the_recursion_from_a_detached_memory(make_pack, make_conditioning, latents):
    pack, start = make_pack(), latents(1, 1)
    conditioning = pack.conditioned(make_conditioning(4), start)
    windows = [latents(1, 3, seed=number) for number in range(4)]
    memory = Psi.begin(pack, conditioning, start, keep=2)
    for window in windows:
        memory = memory.after(window)
    memory.read().tokens.square().mean().backward()
    ours = {name: p.grad.clone() for name, p in pack.named_parameters() if p.grad is not None}
    pack.zero_grad()
    late = folded(pack, conditioning, start, windows[:2]).detach()
    pack.update(pack.update(late, windows[2], conditioning), windows[3], conditioning).tokens.square().mean().backward()
    wanted = {name: p.grad for name, p in pack.named_parameters() if p.grad is not None}
    assert ours.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(ours[name], gradient)


@pytest.mark.parametrize("keep", [0, 2])
def test_the_cost_is_linear_in_the_number_of_sections(make_pack, make_conditioning, latents, keep, monkeypatch):
    pack = make_pack()
    calls = []
    squeeze = pack.squeeze.forward
    monkeypatch.setattr(pack.squeeze, "forward", lambda *tokens, **start: calls.append(1) or squeeze(*tokens, **start))

    def cost(sections: int) -> int:
        calls.clear()
        memory = Psi.begin(pack, make_conditioning(4), latents(1, 1), keep)
        for number in range(sections):
            memory.read()
            memory = memory.after(latents(1, 3, seed=number))
        return len(calls)

    assert cost(12) - cost(8) == cost(8) - cost(4) == 4 * (1 + keep)


def test_a_memory_holds_no_more_windows_than_it_replays(make_pack, make_conditioning, latents):
    for keep in (0, 1, 3):
        pack = make_pack()
        memory = Psi.begin(pack, make_conditioning(4), latents(1, 1), keep)
        for number in range(6):
            memory = memory.after(latents(1, 3, seed=number))
        assert len(memory.sections) == keep


def test_tokens_of_a_window_know_their_place(make_pack, latents):
    pack = make_pack()
    row = latents(1, 2)[:, :, :, :3, :5]
    same_everywhere = row.repeat(1, 1, 1, 2, 2)
    other_neighbour = same_everywhere.clone()
    other_neighbour[..., 3:, 5:] += 1
    tokens = pack.memorize(other_neighbour).tokens[0]
    assert (
        tokens[1] - tokens[2]
    ).abs().max() > 1e-6  # right of and below the first: only the rotation tells them apart


def test_a_window_patch_that_cuts_the_backbones_is_refused(small_config):
    with pytest.raises(UserError, match=r"\[3, 3, 8\]: wanted multiples of the backbone's patch \[1, 2, 2\]"):
        SemanticPack(SemanticPackConfig(window_patch=(3, 3, 8)), small_config.backbone)


def test_a_reminded_memory_looks_at_the_conditioning_at_every_update(make_pack, make_conditioning, latents):
    old, new = make_conditioning(4), make_conditioning(4, seed=1)
    for structure, looks in ((StructureA(), False), (Reminded(), True)):
        pack = make_pack(structure)
        memory = pack.seed(old, latents(1, 1))
        updated = [pack.update(memory, latents(1, 3), conditioning).tokens for conditioning in (old, new)]
        assert torch.equal(*updated) != looks


def test_a_moving_average_is_one_and_needs_no_conditioning(make_pack, make_conditioning, latents):
    pack, conditioning = make_pack(MovingAverage(decay=0.75)), make_conditioning(4)
    start, windows = latents(1, 1), [latents(1, 3, seed=number) for number in range(3)]
    steps = [pack.memorize(window).tokens for window in windows]
    expected = pack.memorize(start).tokens.repeat(1, 2, 1)  # a section has two time steps of patches here
    for step in steps:
        expected = 0.75 * expected + 0.25 * step
    torch.testing.assert_close(folded(pack, conditioning, start, windows).tokens, expected)
    other = folded(pack, make_conditioning(4, seed=1), start, windows)
    torch.testing.assert_close(other.tokens, expected)
    with pytest.raises(UserError, match=r"decay 1\.0"):
        MovingAverage(decay=1.0)


@pytest.mark.parametrize("memory_asks", [False, True])
def test_squeeze_begins_as_an_average_of_both_as_they_are(memory_asks):
    squeeze = Squeeze(32, heads=4, mlp_ratio=2.0, memory_asks=memory_asks)
    asking, told = torch.randn(2, 3, 32), torch.randn(2, 1, 32)
    present = torch.ones(2, 3, dtype=torch.bool)
    found = squeeze(MaskedTokens(asking, present), MaskedTokens(told, present[:, :1])).tokens
    read = 1 - Squeeze.KEPT if memory_asks else 0.5
    torch.testing.assert_close(found, (1 - read) * asking + read * told)


def test_equal_patches_at_different_places_are_remembered_differently(make_pack):
    pack = make_pack()
    even = torch.ones(1, 3, 2, 16, 16)
    tokens = pack.memorize(even).tokens[0]
    assert len(tokens) > 2
    distances = torch.cdist(tokens, tokens) + torch.eye(len(tokens))
    assert distances.min() > 1e-3
