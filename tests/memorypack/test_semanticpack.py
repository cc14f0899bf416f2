from dataclasses import replace

import pytest
import torch

from mpgen.errors import UserError
from mpgen.memorypack.semanticpack import Memory, SemanticPack, SemanticPackConfig, Squeeze
from mpgen.memorypack.structures import (
    GuidanceAnchor,
    MovingAverage,
    Reminded,
    StructureA,
    StructureB,
    StructureC,
    ZeroAnchor,
)
from mpgen.tensors import MaskedTokens

STRUCTURES = [StructureA(), StructureB(), StructureC()]
OUT_WIDTH = 32


@pytest.fixture
def make_pack(small_config, perturb):
    def make(structure=StructureA(), anchor=GuidanceAnchor(), std: float = 0.05) -> SemanticPack:  # noqa: B008 - frozen
        torch.manual_seed(0)
        config = replace(small_config.semantic, structure=structure, anchor=anchor)
        return perturb(SemanticPack(config, in_channels=3, text_width=10, image_width=5, out_width=OUT_WIDTH), std)

    return make


def folded(pack, guidance, start, windows):
    """The paper's recursion as it is written."""
    memory = pack.seed(guidance, start)
    for window in windows:
        memory = pack.update(memory, window, guidance)
    return memory


@pytest.mark.parametrize("structure", STRUCTURES)
def test_at_the_start_every_memory_token_is_an_empty_history_slot_whatever_psi_is(
    make_pack, make_guidance, latents, structure
):
    pack = make_pack(structure)
    empty = torch.randn(OUT_WIDTH)
    pack.neutralise(empty)
    for windows in ([], [latents(2, 3, seed=1)], [latents(2, 3, seed=1), 40 * latents(2, 3, seed=2)]):
        tokens = pack.as_video_tokens(folded(pack, make_guidance(4, 2), latents(2, 1), windows))
        torch.testing.assert_close(tokens, empty.expand_as(tokens))


def test_structures_and_anchors_share_one_state_dict(make_pack):
    shapes = [
        {name: tensor.shape for name, tensor in make_pack(structure, anchor).state_dict().items()}
        for structure in STRUCTURES
        for anchor in (GuidanceAnchor(), ZeroAnchor())
    ]
    assert all(other == shapes[0] for other in shapes)


@pytest.mark.parametrize(("structure", "tokens"), [(StructureA(), 8), (StructureB(), 4 + 5), (StructureC(), 4 + 5 + 4)])
def test_the_memory_keeps_its_number_of_tokens_from_the_first_section_on(
    make_pack, make_guidance, latents, structure, tokens
):
    pack = make_pack(structure)  # windows of 3 frames and 6 x 10 latents: 2 x 2 x 2 patches; 4 image and 5 text tokens
    memory = folded(pack, make_guidance(5, 3), latents(2, 1), [latents(2, 3)])
    for number in range(3):
        assert memory.tokens.shape == (2, tokens, 24)
        assert memory.mask.shape == (2, tokens)
        memory = pack.update(memory, latents(2, 3, seed=number), make_guidance(5, 3))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_memory_depends_on_the_prompt_the_image_and_every_window(make_pack, make_guidance, latents, structure):
    pack = make_pack(structure)
    windows = [latents(1, 3, seed=1), latents(1, 3, seed=2)]
    before = folded(pack, make_guidance(4), latents(1, 1), windows).tokens
    others = [
        folded(pack, make_guidance(4, seed=9), latents(1, 1), windows),
        folded(pack, make_guidance(4), latents(1, 1), [latents(1, 3, seed=9), windows[1]]),
        folded(pack, make_guidance(4), latents(1, 1), [windows[0], latents(1, 3, seed=9)]),
        folded(pack, make_guidance(4), latents(1, 1), windows[::-1]),
    ]
    assert all((other.tokens - before).abs().max() > 1e-6 for other in others)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_text_padding_does_not_matter_to_the_memory(make_pack, make_guidance, latents, structure):
    pack, windows = make_pack(structure), [latents(2, 3, seed=1)]
    tight = folded(pack, make_guidance(4, 2), latents(2, 1), windows)
    loud = folded(pack, make_guidance(4, 2, padding=-70.0), latents(2, 1), windows)
    assert torch.equal(loud.mask, tight.mask)
    torch.testing.assert_close(loud.tokens[tight.mask], tight.tokens[tight.mask])
    alone = make_guidance(4, 2)
    short = type(alone)(alone.text[1:, :2], alone.text_mask[1:, :2], alone.pooled[1:], alone.image[1:])
    wanted = folded(pack, short, latents(2, 1)[1:], [windows[0][1:]])
    torch.testing.assert_close(tight.tokens[1][tight.mask[1]], wanted.tokens[0][wanted.mask[0]])


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_zero_anchor_forgets_prompt_and_image_but_not_the_windows(make_pack, make_guidance, latents, structure):
    pack = make_pack(structure, ZeroAnchor())
    before = folded(pack, make_guidance(4), latents(1, 1), [latents(1, 3)]).tokens
    other_prompt = folded(pack, make_guidance(4, seed=9), latents(1, 1), [latents(1, 3)]).tokens
    other_window = folded(pack, make_guidance(4), latents(1, 1), [latents(1, 3, seed=9)]).tokens
    torch.testing.assert_close(other_prompt, before)
    assert (other_window - before).abs().max() > 1e-6


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("keep", [0, 1, 2, 3, 4])
def test_reading_the_memory_is_the_recursion_however_many_windows_are_replayed(
    make_pack, make_guidance, latents, structure, keep
):
    pack, guidance, start = make_pack(structure), make_guidance(4, 2), latents(2, 1)
    memory, windows = Memory.begin(pack, guidance, start, keep), []
    for number in range(5):
        wanted = folded(pack, guidance, start, windows)
        torch.testing.assert_close(memory.read(pack).tokens, wanted.tokens)
        windows.append(latents(2, 3, seed=number))
        memory = memory.update(pack, windows[-1])


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_gradient_reaches_the_last_windows_and_no_further(make_pack, make_guidance, latents, keep, monkeypatch):
    pack = make_pack()
    replayed = []
    embed = pack.window_embed.forward

    def watched(patches):
        out = embed(patches)
        if out.requires_grad:
            replayed.append(patches)
        return out

    monkeypatch.setattr(pack.window_embed, "forward", watched)
    memory, windows = Memory.begin(pack, make_guidance(4), latents(1, 1), keep), []
    for number in range(4):
        windows.append(latents(1, 3, seed=number).requires_grad_())
        memory = memory.update(pack, windows[-1])
    replayed.clear()
    memory.read(pack).tokens.square().mean().backward() if keep else memory.read(pack)
    assert len(replayed) == keep
    for patches, window in zip(replayed, windows[4 - keep :], strict=True):
        assert torch.equal(patches[:, :, :3, :6, :10], window)
    assert all(window.grad is None for window in windows)
    assert (pack.window_embed.weight.grad is not None) == (keep > 0)


def test_the_gradient_is_that_of_the_recursion_from_a_detached_memory(make_pack, make_guidance, latents):
    pack, guidance, start = make_pack(), make_guidance(4), latents(1, 1)
    windows = [latents(1, 3, seed=number) for number in range(4)]
    memory = Memory.begin(pack, guidance, start, keep=2)
    for window in windows:
        memory = memory.update(pack, window)
    memory.read(pack).tokens.square().mean().backward()
    ours = {name: p.grad.clone() for name, p in pack.named_parameters() if p.grad is not None}
    pack.zero_grad()
    late = folded(pack, guidance, start, windows[:2]).detach()
    pack.update(pack.update(late, windows[2], guidance), windows[3], guidance).tokens.square().mean().backward()
    wanted = {name: p.grad for name, p in pack.named_parameters() if p.grad is not None}
    assert ours.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(ours[name], gradient)


@pytest.mark.parametrize("keep", [0, 2])
def test_the_cost_is_linear_in_the_number_of_sections(make_pack, make_guidance, latents, keep, monkeypatch):
    pack = make_pack()
    calls = []
    squeeze = pack.squeeze.forward
    monkeypatch.setattr(pack.squeeze, "forward", lambda *tokens: calls.append(1) or squeeze(*tokens))

    def cost(sections: int) -> int:
        calls.clear()
        memory = Memory.begin(pack, make_guidance(4), latents(1, 1), keep)
        for number in range(sections):
            memory.read(pack)
            memory = memory.update(pack, latents(1, 3, seed=number))
        return len(calls)

    assert cost(12) - cost(8) == cost(8) - cost(4) == 4 * (1 + keep)


def test_a_memory_holds_no_more_windows_than_it_replays(make_pack, make_guidance, latents):
    for keep in (0, 1, 3):
        pack = make_pack()
        memory = Memory.begin(pack, make_guidance(4), latents(1, 1), keep)
        for number in range(6):
            memory = memory.update(pack, latents(1, 3, seed=number))
        assert len(memory.windows) == keep


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


def test_a_head_that_cannot_be_shared_by_three_axes_is_refused():
    with pytest.raises(UserError, match="head_dim 12"):
        SemanticPackConfig(head_dim=12)


def test_a_reminded_memory_looks_at_the_guidance_at_every_update(make_pack, make_guidance, latents):
    old, new = make_guidance(4), make_guidance(4, seed=1)
    for structure, looks in ((StructureA(), False), (Reminded(), True)):
        pack = make_pack(structure)
        memory = pack.seed(old, latents(1, 1))
        updated = [pack.update(memory, latents(1, 3), guidance).tokens for guidance in (old, new)]
        assert torch.equal(*updated) != looks


def test_a_moving_average_is_one_and_needs_no_guidance(make_pack, make_guidance, latents):
    pack, guidance = make_pack(MovingAverage(decay=0.75)), make_guidance(4)
    start, windows = latents(1, 1), [latents(1, 3, seed=number) for number in range(3)]
    steps = [pack.memorize(window).tokens for window in windows]
    expected = pack.memorize(start).tokens.repeat(1, 2, 1)  # a section has two time steps of patches here
    for step in steps:
        expected = 0.75 * expected + 0.25 * step
    torch.testing.assert_close(folded(pack, guidance, start, windows).tokens, expected)
    other = folded(pack, make_guidance(4, seed=1), start, windows)
    torch.testing.assert_close(other.tokens, expected)
    with pytest.raises(UserError, match=r"decay 1\.0"):
        MovingAverage(decay=1.0)


def test_squeeze_begins_by_passing_on_the_memory_as_it_is():
    squeeze = Squeeze(32, heads=4, mlp_ratio=2.0)
    query, told = torch.randn(2, 3, 32), torch.randn(2, 1, 32)
    present = torch.ones(2, 3, dtype=torch.bool)
    squeeze.ff = torch.nn.Identity()
    squeeze.norm2 = torch.nn.Identity()
    found = squeeze(MaskedTokens(query, present), MaskedTokens(told, present[:, :1])).tokens
    torch.testing.assert_close(found, 2 * (query + torch.nn.functional.layer_norm(told, (32,))))


def test_equal_patches_at_different_places_are_remembered_differently(make_pack):
    pack = make_pack()
    even = torch.ones(1, 3, 2, 16, 16)
    tokens = pack.memorize(even).tokens[0]
    assert len(tokens) > 2
    distances = torch.cdist(tokens, tokens) + torch.eye(len(tokens))
    assert distances.min() > 1e-3
