"""Each network against the library or the listing that it comes from."""

import math

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from torchvision.models.optical_flow import raft_large

from mpgen.errors import UserError
from mpgen.evaluation.vbench.networks.amt import AmtS, warp
from mpgen.evaluation.vbench.networks.clip import AestheticHead, ClipImage
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.networks.musiq import Musiq
from mpgen.evaluation.vbench.networks.raft import Raft
from mpgen.evaluation.vbench.randomise import randomise
from mpgen.optical_flow.correlation import Pyramid, pixel_grid


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def small_dino() -> Dino:
    network = Dino(width=48, depth=3, num_heads=3).eval()
    randomise(network, 1, 2.0)
    return network


@pytest.fixture
def small_clip() -> ClipImage:
    network = ClipImage(patch_px=32, width=48, depth=3, num_heads=3, embedding=20).eval()
    randomise(network, 2, 2.0)
    return network


@pytest.fixture(scope="module")
def raft() -> Raft:
    network = Raft().eval()
    randomise(network, 3)
    return network


def test_dino_is_timms_on_the_size_it_was_trained_on(small_dino):
    theirs = timm.models.vision_transformer.VisionTransformer(
        embed_dim=48, depth=3, num_heads=3, num_classes=0, global_pool="token"
    ).eval()
    theirs.load_state_dict(small_dino.vit.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(small_dino(pictures(2, 3, 224, 224)), theirs(pictures(2, 3, 224, 224)))


def test_dino_takes_any_size_and_leaves_out_what_is_no_whole_patch(small_dino):
    wide = pictures(1, 3, 224, 398)
    with torch.inference_mode():
        torch.testing.assert_close(small_dino(wide), small_dino(wide[..., :384]))


def test_dino_resamples_positions_by_the_authors_factors(small_dino):
    grid = small_dino.vit.pos_embed[:, 1:].detach().reshape(1, 14, 14, 48).permute(0, 3, 1, 2)
    wanted = F.interpolate(grid, scale_factor=(9.1 / 14, 21.1 / 14), mode="bicubic")
    torch.testing.assert_close(small_dino._positions(9, 21)[0, 1:], wanted[0].flatten(1).T)


def test_clip_is_open_clips_tower_with_quickgelu(small_clip):
    with torch.inference_mode():
        torch.testing.assert_close(
            small_clip(pictures(2, 3, 224, 224)), small_clip.visual(pictures(2, 3, 224, 224)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(("ours", "name"), [(ClipImage.base_32, "ViT-B-32"), (ClipImage.large_14, "ViT-L-14")])
def test_clip_has_the_published_sizes(ours, name):
    config = open_clip.get_model_config(f"{name}-quickgelu")
    with torch.device("meta"):
        tower = ours().visual
    vision = config["vision_cfg"]
    assert config["quick_gelu"]
    assert (tower.conv1.out_channels, len(tower.transformer.resblocks)) == (vision["width"], vision["layers"])
    assert tower.proj.shape == (vision["width"], config["embed_dim"])
    assert tower.patch_size == (vision["patch_size"],) * 2
    assert tower.transformer.resblocks[0].attn.num_heads == vision["width"] // 64


def test_the_aesthetic_head_does_not_mind_the_length_of_an_embedding():
    head = AestheticHead(7)
    randomise(head, 1)
    rows = pictures(3, 7)
    torch.testing.assert_close(head(rows), head(5 * rows))


def test_raft_is_torchvisions_last_flow_of_twenty(raft):
    theirs = raft_large(weights=None, progress=False).eval()
    theirs.load_state_dict(raft.layers.state_dict())
    first, second = pictures(1, 3, 128, 136).tanh(), pictures(1, 3, 128, 136, seed=1).tanh()
    with torch.inference_mode():
        wanted = theirs(first, second, num_flow_updates=20)[-1]
        first, second = (127.5 * (picture + 1) for picture in (first, second))
        flow = raft(first, raft.features(first), raft.features(second))
    torch.testing.assert_close(flow, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().mean().item())


def test_correlation_at_a_whole_place_is_the_product_of_two_vectors():
    features, others = pictures(1, 5, 8, 9), pictures(1, 5, 8, 9, seed=1)
    found = Pyramid(features, others, levels=2, radius=1)(pixel_grid(features))
    centre = (features * others).sum(1) / math.sqrt(5)
    torch.testing.assert_close(found[:, 4], centre)  # the middle of the first 3 x 3 window
    right = (features[..., :-1] * others[..., 1:]).sum(1) / math.sqrt(5)
    torch.testing.assert_close(found[:, 7, :, :-1], right)


def test_musiq_reads_a_small_picture_and_a_large_one_with_few_and_many_tokens():
    network = Musiq(width=24, depth=2, num_heads=3, inner=20).eval()
    randomise(network, 4, 1.5)
    lengths = []
    network.transformer_encoder.register_forward_pre_hook(lambda module, given: lengths.append(given[0].shape[1]))
    with torch.inference_mode():
        assert network(pictures(2, 3, 40, 70).sigmoid()).shape == (2,)
        network(pictures(1, 3, 288, 512).sigmoid())
    # longer sides 224, 384 and the picture's own, in patches of 32 pixels; no padding tokens
    assert lengths == [4 * 7 + 7 * 12 + 2 * 3, 4 * 7 + 7 * 12 + 9 * 16]


def test_musiq_scores_every_picture_of_a_batch_by_itself():
    network = Musiq(width=24, depth=2, num_heads=3, inner=20).eval()
    randomise(network, 4, 1.5)
    batch = pictures(3, 3, 50, 33).sigmoid()
    with torch.inference_mode():
        together, alone = network(batch), torch.cat([network(one) for one in batch.split(1)])
    assert together.std() > 1e-3
    torch.testing.assert_close(together, alone)


def test_amt_has_the_published_tensors():
    state = AmtS().state_dict()
    assert len(state) == 213
    assert 2.95e6 < sum(tensor.numel() for tensor in state.values()) < 3.05e6
    assert state["decoder1.convblock.2.weight"].shape == (60, 24, 4, 4)


def test_amt_guesses_every_pair_of_a_batch_by_itself():
    network = AmtS().eval()
    randomise(network, 5)
    first, second = pictures(2, 3, 128, 144).sigmoid(), pictures(2, 3, 128, 144, seed=1).sigmoid()
    with torch.inference_mode():
        together = network(first, second)
        torch.testing.assert_close(together[1:], network(first[1:], second[1:]), rtol=1e-4, atol=1e-4)


def test_warping_takes_a_pixel_from_where_the_flow_points():
    picture = pictures(1, 2, 6, 7)
    flow = torch.zeros(1, 2, 6, 7)
    flow[:, 0] = 2
    moved = warp(picture, flow)
    torch.testing.assert_close(moved[..., :-2], picture[..., 2:])
    torch.testing.assert_close(moved[..., -1], picture[..., -1])


def test_random_weights_follow_from_the_seed_alone():
    one, other, third = (AestheticHead(7) for _ in range(3))
    randomise(one, 1)
    randomise(other, 1)
    randomise(third, 2)
    torch.testing.assert_close(one.linear.weight, other.linear.weight)
    assert not torch.equal(one.linear.weight, third.linear.weight)


def test_a_file_of_another_network_is_refused_in_one_line(tmp_path, small_dino):
    torch.save(AestheticHead(7).linear.state_dict(), tmp_path / "dino_vitbase16_pretrain.pth")
    with pytest.raises(UserError, match=r"dino_vitbase16_pretrain.pth does not fit.*missing.*unexpected") as error:
        small_dino.load(tmp_path / "dino_vitbase16_pretrain.pth")
    assert "\n" not in str(error.value)
