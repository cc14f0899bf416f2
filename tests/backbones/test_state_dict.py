"""The names and sizes that released weights have (facts read from the released checkpoint)."""

import re

import pytest
import torch

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.hunyuan.model import Hunyuan

LINEAR = r"\.(weight|bias)"
PATTERNS = (
    r"x_embedder\.proj" + LINEAR,
    r"clean_x_embedder\.(proj|proj_2x|proj_4x)" + LINEAR,
    r"image_projection\.(up|down)" + LINEAR,
    r"time_text_embed\.(timestep_embedder|guidance_embedder|text_embedder)\.linear_[12]" + LINEAR,
    r"context_embedder\.time_text_embed\.(timestep_embedder|text_embedder)\.linear_[12]" + LINEAR,
    r"context_embedder\.proj_in" + LINEAR,
    r"context_embedder\.token_refiner\.refiner_blocks\.\d+\."
    r"(norm1|norm2|attn\.to_[qkv]|attn\.to_out\.0|ff\.net\.0\.proj|ff\.net\.2|norm_out\.linear)" + LINEAR,
    r"transformer_blocks\.\d+\.(norm1\.linear|norm1_context\.linear|attn\.to_[qkv]|attn\.add_[qkv]_proj|attn\.to_out\.0"
    r"|attn\.to_add_out|ff\.net\.0\.proj|ff\.net\.2|ff_context\.net\.0\.proj|ff_context\.net\.2)" + LINEAR,
    r"transformer_blocks\.\d+\.attn\.(norm_q|norm_k|norm_added_q|norm_added_k)\.weight",
    r"single_transformer_blocks\.\d+\.(norm\.linear|attn\.to_[qkv]|proj_mlp|proj_out)" + LINEAR,
    r"single_transformer_blocks\.\d+\.attn\.norm_[qk]\.weight",
    r"norm_out\.linear" + LINEAR,
    r"proj_out" + LINEAR,
)


@pytest.fixture(scope="module")
def released() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return Hunyuan(HunyuanConfig()).state_dict()


def test_the_released_size_has_1274_names_and_12_9_billion_parameters(released):
    assert len(released) == 1274
    assert sum(tensor.numel() for tensor in released.values()) == 12_874_314_816


def test_every_name_is_a_released_one_and_every_released_kind_is_there(released):
    strangers = [name for name in released if not any(re.fullmatch(pattern, name) for pattern in PATTERNS)]
    assert strangers == []
    assert all(any(re.fullmatch(pattern, name) for name in released) for pattern in PATTERNS)


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("transformer_blocks.19.", 32),
        ("single_transformer_blocks.39.", 14),
        ("context_embedder.token_refiner.refiner_blocks.1.", 18),
        ("context_embedder.", 46),
        ("time_text_embed.", 12),
    ],
)
def test_every_part_has_as_many_names_as_released(released, prefix, names):
    assert sum(name.startswith(prefix) for name in released) == names


def test_the_head_that_stage_2_trains_holds_19_million_parameters(released):
    head = {name: tensor for name, tensor in released.items() if name.startswith(("norm_out.", "proj_out."))}
    assert sum(tensor.numel() for tensor in head.values()) == 19_077_184


def test_axes_that_do_not_fill_a_head_are_refused():
    with pytest.raises(ValueError, match="rope_axes_dim"):
        HunyuanConfig(rope_axes_dim=(16, 56, 54))
    with pytest.raises(ValueError, match="rope_axes_dim"):
        HunyuanConfig(rope_axes_dim=(15, 57, 56))


def test_patches_of_several_latent_frames_are_refused():
    with pytest.raises(ValueError, match="patch_size_t 2"):
        HunyuanConfig(patch_size_t=2)
