import pytest
import torch
import torch.nn.functional as F

from mpgen.backbones.hunyuan.model import Hunyuan
from mpgen.backbones.hunyuan.patches import unpatchify
from mpgen.backbones.patches import pad_to_multiple

FACTORS = (1, 2, 4)


@pytest.fixture
def backbone(small_config, perturb):
    torch.manual_seed(0)
    return perturb(Hunyuan(small_config.backbone.with_depths((0, 0))))


def test_a_latent_of_zeros_becomes_the_bias(backbone):
    zeros = torch.zeros(2, 3, 4, 6, 10)
    biases = [backbone.history_kernel(factor).bias for factor in FACTORS]
    for factor, bias in zip(FACTORS, biases, strict=True):
        tokens = backbone.embed_history(zeros, factor)
        torch.testing.assert_close(tokens, bias.expand_as(tokens))
    assert len({bias[0].item() for bias in biases}) == 3


def test_every_factor_makes_the_tokens_of_its_kernel(backbone):
    latents = torch.randn(2, 3, 5, 6, 10)  # 5 frames of 3 x 5 patches
    shapes = [backbone.embed_history(latents, factor).shape for factor in FACTORS]
    assert shapes == [(2, 5 * 3 * 5, 32), (2, 3 * 2 * 3, 32), (2, 2 * 1 * 2, 32)]


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


def test_history_begins_so_that_a_constant_latent_looks_the_same_at_every_factor(backbone):
    backbone.initialise_additions()
    constant = torch.randn(1, 3, 1, 1, 1).expand(1, 3, 4, 8, 8)
    wanted = backbone.x_embedder(constant)[:, 0]
    assert wanted.abs().max() > 0.01
    for factor in FACTORS:
        tokens = backbone.embed_history(constant, factor)
        torch.testing.assert_close(tokens, wanted[:, None].expand_as(tokens))


def test_packing_begins_as_the_mean_of_the_patch_embedding(backbone):
    backbone.initialise_additions()
    latents = torch.randn(2, 3, 4, 8, 16)
    whole = backbone.x_embedder(latents).unflatten(1, (4, 4, 8)).movedim(-1, 1)
    for factor in FACTORS:
        torch.testing.assert_close(backbone.embed_history(latents, factor), F.avg_pool3d(whole, factor).flatten(2).mT)


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
