import pytest
import torch
import torch.nn.functional as F

from mpgen.backbones.hunyuan.patches import HistoryEmbed, PatchEmbed, pad_to_multiple, unpatchify

PATCH = (1, 2, 2)


@pytest.fixture
def embed(perturb):
    torch.manual_seed(0)
    return perturb(HistoryEmbed(3, 7, PATCH))


def test_a_latent_of_zeros_becomes_the_bias(embed):
    zeros = torch.zeros(2, 3, 4, 6, 10)
    for level, proj in ((embed.embed_1x, embed.proj), (embed.embed_2x, embed.proj_2x), (embed.embed_4x, embed.proj_4x)):
        tokens = level(zeros)
        torch.testing.assert_close(tokens, proj.bias.expand_as(tokens))


def test_every_level_makes_the_tokens_of_its_kernel(embed):
    latents = torch.randn(2, 3, 5, 6, 10)  # 5 frames of 3 x 5 patches
    levels = (embed.embed_1x, embed.embed_2x, embed.embed_4x)
    assert [level(latents).shape for level in levels] == [(2, 5 * 3 * 5, 7), (2, 3 * 2 * 3, 7), (2, 2 * 1 * 2, 7)]


def test_padding_repeats_the_last_frame_row_and_column():
    latents = torch.randn(2, 3, 3, 5, 6)
    padded = pad_to_multiple(latents, (2, 4, 4))
    assert padded.shape == (2, 3, 4, 8, 8)
    torch.testing.assert_close(padded[:, :, :3, :5, :6], latents)
    torch.testing.assert_close(padded[:, :, 3], padded[:, :, 2])
    torch.testing.assert_close(padded[..., 5:, :], padded[..., 4:5, :].expand(-1, -1, -1, 3, -1))
    torch.testing.assert_close(padded[..., 6:], padded[..., 5:6].expand(-1, -1, -1, -1, 2))


def test_padding_leaves_a_whole_number_of_kernels_alone():
    latents = torch.randn(1, 2, 4, 8, 12)
    assert torch.equal(pad_to_multiple(latents, (4, 8, 4)), latents)


def test_history_begins_so_that_a_constant_latent_looks_the_same_at_every_level(embed, perturb):
    patches = perturb(PatchEmbed(3, 7, PATCH), seed=3)
    embed.initialise_from(patches)
    constant = torch.randn(1, 3, 1, 1, 1).expand(1, 3, 4, 8, 8)
    wanted = patches(constant)[:, 0]
    assert wanted.abs().max() > 0.01
    for level in (embed.embed_1x, embed.embed_2x, embed.embed_4x):
        torch.testing.assert_close(level(constant), wanted[:, None].expand_as(level(constant)))


def test_packing_begins_as_the_mean_of_the_patch_embedding(embed, perturb):
    patches = perturb(PatchEmbed(3, 7, PATCH), seed=3)
    embed.initialise_from(patches)
    latents = torch.randn(2, 3, 4, 8, 16)
    whole = patches(latents).unflatten(1, (4, 4, 8)).movedim(-1, 1)
    for level, factor in ((embed.embed_2x, 2), (embed.embed_4x, 4)):
        torch.testing.assert_close(level(latents), F.avg_pool3d(whole, factor).flatten(2).mT)


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 3, 1)])
def test_unpatchify_undoes_patches_of_channel_time_row_column(patch):
    t, y, x = 2, 3, 4
    latents = torch.randn(2, 5, t * patch[0], y * patch[1], x * patch[2])
    tokens = torch.stack(
        [
            latents[:, :, k * patch[0] : (k + 1) * patch[0], i * patch[1] : (i + 1) * patch[1]][
                ..., j * patch[2] : (j + 1) * patch[2]
            ].flatten(1)
            for k in range(t)
            for i in range(y)
            for j in range(x)
        ],
        1,
    )
    restored = unpatchify(tokens, t, y, x, patch)
    assert torch.equal(restored, latents)
    assert restored.is_contiguous()
