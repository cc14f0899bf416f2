"""The same numbers as diffusers' class, from a folder that its `save_pretrained` wrote, through our loader."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mpgen.attention import using
from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.rope import flatten_rotation, no_rotation, pool_rotation, rotate, rotation_grid
from mpgen.backbones.spread import Here
from mpgen.checkpoints import load_released
from mpgen.denoiser import DenoiserConfig
from mpgen.sections import Forward

pytest.importorskip("diffusers")
TOOL = Path(__file__).parents[2] / "tools" / "compare_with_diffusers.py"
SIZES = {
    "two heads of 16": {"num_attention_heads": 2, "attention_head_dim": 16, "rope_axes_dim": (4, 6, 6)},
    "three heads of 32": {
        "num_attention_heads": 3,
        "attention_head_dim": 32,
        "rope_axes_dim": (8, 12, 12),
        "num_layers": 3,
        "num_single_layers": 4,
        "num_refiner_layers": 1,
        "mlp_ratio": 2.5,
        "rope_theta": 100.0,
        "text_embed_dim": 20,
    },
}


@pytest.fixture(scope="module", params=SIZES)
def released(request, tool, tmp_path_factory):
    """diffusers' class with random weights, and the folder it saved itself to."""
    torch.manual_seed(0)
    sizes = {
        "num_layers": 2,
        "num_single_layers": 2,
        "text_embed_dim": 32,
        "pooled_projection_dim": 24,
        "image_proj_dim": 40,
    }
    model = tool.FRAMEPACK.released(
        **sizes | SIZES[request.param], has_image_proj=True, has_clean_x_embedder=True
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("released")
    model.save_pretrained(folder, max_shard_size="500KB" if request.param == "two heads of 16" else "1GB")
    return model.requires_grad_(False), folder


def load(folder: Path, frames: int = 9):
    return load_released(folder, DenoiserConfig(HunyuanConfig(), layout=Forward(section=frames)))


# Odd and small grids: every way in which packed history is padded.
CASES = [
    # grid, frames, batch, text, valid, past
    ((6, 10), 9, 1, 24, 24, 3),
    ((7, 11), 9, 2, 24, 17, 3),
    ((2, 3), 5, 1, 12, 7, 0),
    ((7, 11), 5, 2, 12, 12, 0),
    ((5, 6), 1, 1, 9, 2, 1),
    ((4, 9), 3, 2, 30, 8, 1),
    ((1, 1), 9, 2, 7, 7, 2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_saved_folder_gives_the_same_velocity_in_both(released, tool, case):
    model, folder = released
    grid, frames, batch, text, valid, past = case
    denoiser = load(folder, frames)
    given = tool.make_case(denoiser, grid, frames, batch, text, past, seed=1, valid=valid)
    wanted = tool.theirs(model, given, denoiser.layout)
    assert wanted.std() > 0.1
    torch.testing.assert_close(tool.ours(denoiser, given), wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("backend", ["sdpa", "onednn"])
def test_over_many_tokens_every_attention_backend_gives_the_same_velocity(released, tool, backend, count_calls):
    model, folder = released
    denoiser = load(folder)
    given = tool.make_case(denoiser, (13, 17), frames=9, batch=2, text=12, past=1, seed=1, valid=10)
    ran = count_calls(torch.Tensor, "to_mkldnn")
    with using(backend):
        torch.testing.assert_close(
            tool.ours(denoiser, given), tool.theirs(model, given, denoiser.layout), atol=2e-5, rtol=0
        )
    assert bool(ran) == (backend == "onednn")


def test_both_say_the_same_gradients(released, tool):
    model, folder = released
    denoiser = load(folder, 2).requires_grad_(True)
    given = tool.make_case(denoiser, (3, 5), 2, 2, 9, 3, seed=2)
    tool.ours(denoiser, given).square().mean().backward()
    model = tool.FRAMEPACK.released.from_pretrained(folder)
    tool.theirs(model, given, denoiser.layout).square().mean().backward()
    wanted = dict(model.named_parameters())
    for name, parameter in denoiser.backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=2e-5, rtol=1e-3, msg=name)


# --- part by part, so that a difference above is found


@pytest.mark.parametrize("kernel", [1, 2, 4])
def test_the_rotation_of_packed_history_is_the_same(released, kernel):
    model, _ = released
    rope, frames, rows, columns = model.rope, 5, 7, 3
    indices = torch.tensor([0, 3, 4, 55, 300])
    wanted = rope(indices, 2 * rows, 2 * columns, torch.device("cpu"))
    if kernel > 1:
        wanted = model._pad_rotary_emb(wanted, rows, columns, (kernel, kernel, kernel))
    grid = rotation_grid(indices[None], rows, columns, tuple(rope.rope_dim), rope.theta)
    assert grid.shape[2:] == (frames, rows, columns)
    cos, sin = flatten_rotation(pool_rotation(grid, kernel))[0].chunk(2, -1)
    torch.testing.assert_close(cos.repeat_interleave(2, -1), wanted[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(sin.repeat_interleave(2, -1), wanted[1], atol=1e-6, rtol=0)


def test_rotating_is_the_same(released):
    from diffusers.models.embeddings import apply_rotary_emb

    model, _ = released
    wanted_rotation = model.rope(torch.tensor([2, 9]), 6, 10, torch.device("cpu"))
    grid = rotation_grid(torch.tensor([[2, 9]]), 3, 5, tuple(model.rope.rope_dim), model.rope.theta)
    x = torch.randn(2, 30, 3, sum(model.rope.rope_dim))
    wanted = apply_rotary_emb(x, wanted_rotation, sequence_dim=1)
    got = rotate(x.transpose(1, 2), flatten_rotation(grid).expand(2, -1, -1)).transpose(1, 2)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


def test_the_text_refiner_is_the_same(released):
    model, folder = released
    denoiser = load(folder)
    text, timestep = torch.randn(2, 9, denoiser.backbone.config.text_embed_dim), torch.tensor([871.3, 30.0])
    mask = torch.arange(9)[None] < torch.tensor([[4], [9]])
    wanted = model.context_embedder(text, timestep, mask)
    got = denoiser.backbone.context_embedder(text, timestep, mask)
    torch.testing.assert_close(got[mask], wanted[mask], atol=5e-6, rtol=0)


def test_the_time_embedding_is_the_same(released):
    model, folder = released
    denoiser = load(folder)
    timestep, guidance = torch.tensor([871.3, 30.0]), torch.tensor([10_000.0, 1000.0])
    pooled = torch.randn(2, denoiser.backbone.config.pooled_projection_dim)
    wanted, _ = model.time_text_embed(timestep, pooled, guidance)
    torch.testing.assert_close(denoiser.backbone.time_text_embed(timestep[:, None], guidance, pooled)[:, 0], wanted)


@pytest.fixture
def streams(released):
    """Tokens of both streams and what a block takes beside them: theirs, then ours."""
    model, _ = released
    width = model.config.num_attention_heads * model.config.attention_head_dim
    video, condition, temb = torch.randn(2, 12, width), torch.randn(2, 5, width), torch.randn(2, width)
    rotation = model.rope(torch.tensor([4, 7]), 4, 6, torch.device("cpu"))
    grid = rotation_grid(torch.tensor([[4, 7]]), 2, 3, tuple(model.rope.rope_dim), model.rope.theta)
    mask = (torch.arange(17)[None] < torch.tensor([[17], [14]]))[:, None, None]
    return video, condition, temb, mask, rotation, flatten_rotation(grid).expand(2, -1, -1)


def test_a_double_stream_block_is_the_same(released, streams):
    model, folder = released
    video, condition, temb, mask, theirs, ours = streams
    wanted = model.transformer_blocks[1](video, condition, temb, mask, theirs)
    block = load(folder).backbone.transformer_blocks[1]
    got = block(video, condition, temb[:, None], temb, ours, Here().attention(mask, ()))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_single_stream_block_is_the_same(released, streams):
    model, folder = released
    video, condition, temb, mask, theirs, ours = streams
    wanted = torch.cat(model.single_transformer_blocks[1](video, condition, temb, mask, theirs), 1)
    block = load(folder).backbone.single_transformer_blocks[1]
    rotation = torch.cat([ours, no_rotation(2, 5, ours.shape[-1], ours.device)], 1)
    got = block(torch.cat([video, condition], 1), temb[:, None], rotation, Here().attention(mask, ()))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_program_prints_the_difference_and_its_status_says_if_it_is_small(released):
    _, folder = released
    done = subprocess.run(
        [sys.executable, TOOL, folder, "--grid", "11x7", "--frames", "5", "--batch", "2", "--text", "24"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TOOL.parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout
