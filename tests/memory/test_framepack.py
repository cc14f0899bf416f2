import pytest
import torch

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.hunyuan.config import FRAMEPACK_CLASS
from mpgen.backbones.rope import flatten_rotation, pool_rotation
from mpgen.denoiser import DenoiserConfig
from mpgen.memory.framepack import History, pack_history
from mpgen.sections import Forward, GlobalIndex, Inverted, LocalIndex

RELEASED = Forward()  # 9 latent frames a section, 16 + 2 + 1 of history


def numbered(begin: int, end: int) -> torch.Tensor:
    """Latent frames that hold their own number; the start image is frame 1, so that 0 means an empty slot."""
    return torch.arange(begin, end).float()[None, None, :, None, None].expand(1, 2, -1, 2, 4)


def after(sections: int) -> History:
    history = History.begin(numbered(1, 2), RELEASED)
    for number in range(sections):
        history = history.append(numbered(2 + 9 * number, 11 + 9 * number))
    return history


def window(sections: int) -> list[int]:
    return after(sections).recent[0, 0, :, 0, 0].int().tolist()


def test_before_the_first_section_only_the_start_image_is_there():
    assert window(0) == [0] * 18 + [1]


def test_before_the_second_section_nine_slots_are_empty():
    assert window(1) == [0] * 9 + list(range(1, 11))


@pytest.mark.parametrize("sections", [2, 3, 7])
def test_from_the_third_section_on_the_window_holds_the_latest_19_frames(sections):
    newest = 1 + 9 * sections
    assert window(sections) == list(range(newest - 18, newest + 1))


def test_the_history_does_not_grow_and_keeps_the_start_image():
    history = after(30)
    assert history.recent.shape == after(0).recent.shape
    assert history.recent.untyped_storage().nbytes() <= 4 * after(0).recent.numel() + 4 * 9 * 2 * 2 * 4
    assert torch.equal(history.start, numbered(1, 2))
    assert history.numbers == (30,)


@pytest.fixture
def backbone(small_config, perturb):
    return perturb(small_config.backbone.build())


def test_context_is_4x_then_2x_then_start_and_latest_frame(backbone, latents):
    history = History.begin(latents(1, 1), RELEASED).append(latents(1, 9, seed=1)).append(latents(1, 9, seed=2))
    wanted = [
        backbone.embed_history(history.recent[:, :, :16], 4),
        backbone.embed_history(history.recent[:, :, 16:18], 2),
        backbone.embed_history(history.start, 1),
        backbone.embed_history(history.recent[:, :, 18:], 1),
    ]
    context = pack_history(backbone, history, LocalIndex())
    torch.testing.assert_close(context.tokens, torch.cat(wanted, 1))
    assert context.section_indices.tolist() == [list(range(20, 29))]


def test_start_and_history_stand_where_the_released_model_puts_them(backbone, latents):
    context = pack_history(backbone, History.begin(latents(1, 1), RELEASED), LocalIndex())

    def at(indices, kernel: int) -> torch.Tensor:
        return flatten_rotation(pool_rotation(backbone.rotation_grid(torch.tensor([indices]), 3, 5), kernel))

    wanted = [at(list(range(1, 17)), 4), at([17, 18], 2), at([0, 19], 1)]
    torch.testing.assert_close(context.rotation, torch.cat(wanted, 1))


def test_empty_slots_are_bias_tokens_and_can_be_looked_at(backbone, latents):
    context = pack_history(backbone, History.begin(latents(1, 1), RELEASED), LocalIndex())
    of_4x = 4 * 1 * 2  # 3 x 5 patches, padded
    torch.testing.assert_close(context.tokens[0, :of_4x], backbone.history_kernel(4).bias.expand(of_4x, -1))
    of_2x = 1 * 2 * 3
    two = context.tokens[0, of_4x : of_4x + of_2x]
    torch.testing.assert_close(two, backbone.history_kernel(2).bias.expand(of_2x, -1))
    assert bool(context.mask.all())


@pytest.mark.parametrize(
    ("rows", "columns", "tokens"),
    [(60, 104, (416, 390, 3120)), (68, 88, (396, 374, 2992)), (80, 76, (400, 380, 3040)), (14, 22, (24, 24, 154))],
    ids=["480x832", "544x704", "640x608", "odd"],
)
def test_the_context_costs_as_many_tokens_as_the_released_model(backbone, rows, columns, tokens):
    history = History.begin(torch.zeros(1, 3, 1, rows, columns), RELEASED)
    context = pack_history(backbone, history, LocalIndex())
    assert context.tokens.shape[1] == context.rotation.shape[1] == sum(tokens)


def test_every_video_of_a_batch_stands_at_its_own_section(backbone, latents):
    early, late = History.begin(latents(1, 1), RELEASED), History.begin(latents(1, 1, seed=5), RELEASED)
    late = late.append(latents(1, 9, seed=6))
    both = History(torch.cat([early.start, late.start]), torch.cat([early.recent, late.recent]), (0, 1), RELEASED)
    together = pack_history(backbone, both, GlobalIndex())
    for i, alone in enumerate((early, late)):
        wanted = pack_history(backbone, alone, GlobalIndex())
        torch.testing.assert_close(together.rotation[i : i + 1], wanted.rotation)
        torch.testing.assert_close(together.tokens[i : i + 1], wanted.tokens)
        assert together.section_indices[i].tolist() == list(range(1 + 9 * i, 10 + 9 * i))


def test_a_layout_without_packed_history_has_the_whole_frames_alone(backbone, latents):
    layout = Forward(section=3, history_4x=0, history_2x=0, history_1x=2)
    context = pack_history(backbone, History.begin(latents(2, 1), layout), LocalIndex())
    assert context.tokens.shape[:2] == (2, 3 * 3 * 5)
    assert context.section_indices[0].tolist() == [3, 4, 5]


def test_the_config_of_the_released_model_is_the_default():
    card = {"_class_name": FRAMEPACK_CLASS, "has_image_proj": True, "has_clean_x_embedder": True}
    assert HunyuanConfig.from_released(card) == HunyuanConfig(refiner_mlp_ratio=4.0)
    assert HunyuanConfig().refiner_ratio == 4.0
    assert DenoiserConfig(HunyuanConfig()).layout == RELEASED


def backwards(sections: int, end: torch.Tensor | None = None) -> History:
    """A video of three sections made from the end, as far as it is there; frame k holds k + 1."""
    history = History.begin(numbered(1, 2), Inverted().for_video(3), end)
    for number in range(sections):
        begin = 2 + 9 * (2 - number)
        history = history.append(numbered(begin, begin + 9))
    return history


@pytest.mark.parametrize(
    ("sections", "window"), [(0, [0] * 19), (1, [*range(20, 29), *[0] * 10]), (2, [*range(11, 29), 0])]
)
def test_where_the_last_section_comes_first_the_window_holds_what_follows(sections, window):
    assert backwards(sections).window()[0, 0, :, 0, 0].int().tolist() == window


def test_an_end_image_is_seen_by_the_first_section_made_and_no_other():
    end = numbered(99, 100)
    assert backwards(0, end).window()[0, 0, :, 0, 0].int().tolist() == [99, *[0] * 18]
    assert torch.equal(backwards(1, end).window(), backwards(1).window())


def test_packed_frames_of_f0_are_the_far_ones(backbone, latents):
    layout = Inverted().for_video(2)
    history = History.begin(latents(1, 1), layout).append(latents(1, 9, seed=1))
    context = pack_history(backbone, history, LocalIndex())
    wanted = [
        backbone.embed_history(history.recent[:, :, 3:], 4),
        backbone.embed_history(history.recent[:, :, 1:3], 2),
        backbone.embed_history(history.start, 1),
        backbone.embed_history(history.recent[:, :, :1], 1),
    ]
    torch.testing.assert_close(context.tokens, torch.cat(wanted, 1))

    def at(indices, kernel: int) -> torch.Tensor:
        return flatten_rotation(pool_rotation(backbone.rotation_grid(torch.tensor([indices]), 3, 5), kernel))

    rotations = [at(list(range(13, 29)), 4), at([11, 12], 2), at([0, 10], 1)]
    torch.testing.assert_close(context.rotation, torch.cat(rotations, 1))
    assert context.section_indices.tolist() == [list(range(1, 10))]


def test_f1_has_no_place_for_an_end_image():
    with pytest.raises(AssertionError, match="end image"):
        History.begin(numbered(1, 2), RELEASED, numbered(9, 10))
