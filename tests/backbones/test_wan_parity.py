"""The same numbers as diffusers' Helios and Wan classes, from folders that they saved, through our loader."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpgen.backbones.rope import flatten_rotation, pool_rotation, rotate, rotation_grid
from mpgen.backbones.spread import Here
from mpgen.backbones.wan import WanConfig
from mpgen.checkpoints import load_released
from mpgen.denoiser import DenoiserConfig
from mpgen.sections import Forward

TOLERANCE = {"atol": 2e-5, "rtol": 0}
SIZES = {
    "two heads of 12": {"num_attention_heads": 2, "attention_head_dim": 12, "rope_dim": (4, 4, 4), "ffn_dim": 32},
    "three heads of 32": {
        "num_attention_heads": 3,
        "attention_head_dim": 32,
        "rope_dim": (12, 10, 10),
        "ffn_dim": 100,
        "num_layers": 3,
        "freq_dim": 64,
        "rope_theta": 100.0,
    },
}


def saved(kind, folder: Path, **sizes):
    """diffusers' class with random weights, saved to a folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(**{"num_layers": 2, "in_channels": 5, "out_channels": 5, "text_dim": 20} | sizes).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder, max_shard_size="100KB")
    return model.requires_grad_(False)


@pytest.fixture(scope="module", params=SIZES)
def helios(request, tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("helios")
    return saved(tool.HELIOS.released, folder, **SIZES[request.param]), folder


@pytest.fixture(scope="module", params=SIZES)
def wan(request, tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wan")
    sizes = {name: size for name, size in SIZES[request.param].items() if not name.startswith("rope")}
    return saved(tool.WAN.released, folder, **sizes), folder


def load(folder: Path, frames: int = 9, **layout: int):
    return load_released(folder, DenoiserConfig(WanConfig(), layout=Forward(section=frames, **layout)))


# Odd and small grids: every way in which packed history is padded.
CASES = [
    # grid, frames, batch, text, past
    ((6, 10), 9, 1, 24, 3),
    ((7, 11), 9, 2, 17, 3),
    ((2, 3), 5, 1, 7, 0),
    ((7, 11), 5, 3, 512, 0),
    ((5, 6), 1, 1, 2, 1),
    ((4, 9), 3, 2, 8, 1),
    ((1, 1), 9, 2, 7, 2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_saved_helios_gives_the_same_velocity_in_both(helios, tool, case):
    model, folder = helios
    grid, frames, batch, text, past = case
    denoiser = load(folder, frames)
    given = tool.make_case(denoiser, grid, frames, batch, text, past, seed=1)
    wanted = tool.theirs(model, given, denoiser.layout)
    assert wanted.std() > 0.1
    torch.testing.assert_close(tool.ours(denoiser, given), wanted, **TOLERANCE)


@pytest.mark.parametrize("sizes", [(0, 0, 1), (0, 2, 1), (4, 0, 2), (8, 4, 3)])
def test_histories_may_be_missing_or_of_other_lengths(helios, tool, sizes):
    model, folder = helios
    denoiser = load(folder, 3, **dict(zip(("history_4x", "history_2x", "history_1x"), sizes, strict=True)))
    given = tool.make_case(denoiser, (3, 5), 3, 2, 9, 2, seed=1)
    wanted = tool.theirs(model, given, denoiser.layout)
    torch.testing.assert_close(tool.ours(denoiser, given), wanted, **TOLERANCE)


@pytest.mark.parametrize("case", [((6, 10), 9, 1, 24), ((7, 3), 5, 2, 512), ((1, 1), 1, 3, 1)], ids=str)
def test_a_saved_wan_gives_the_same_velocity_without_history(wan, tool, case):
    model, folder = wan
    grid, frames, batch, text = case
    denoiser = load(folder, frames)
    given = tool.make_case(denoiser, grid, frames, batch, text, past=0, seed=1)
    wanted = tool.theirs(model, given, denoiser.layout)
    assert wanted.std() > 0.1
    torch.testing.assert_close(tool.WAN.ours(denoiser, given), wanted, **TOLERANCE)


def test_wan_takes_a_noise_level_for_every_frame_as_its_image_to_video_does(wan, tool):
    model, folder = wan
    denoiser = load(folder, 3)
    given = tool.make_case(denoiser, (2, 4), 3, 2, 9, past=0, seed=1)
    sigma = torch.tensor([[0.0, 0.4, 0.4], [0.9, 0.1, 0.5]])
    inputs = tool.wan_inputs(given, denoiser.layout)
    wanted = model(**inputs | {"timestep": (sigma * 1000).repeat_interleave(2 * 4, 1)}).sample
    got = tool.WAN.ours(denoiser, replace(given, sigma=sigma))
    torch.testing.assert_close(got, wanted, **TOLERANCE)


def test_both_say_the_same_gradients(helios, tool):
    _, folder = helios
    denoiser = load(folder, 2).requires_grad_(True)
    given = tool.make_case(denoiser, (3, 5), 2, 2, 9, 3, seed=2)
    tool.ours(denoiser, given).square().mean().backward()
    model = tool.HELIOS.released.from_pretrained(folder)
    tool.theirs(model, given, denoiser.layout).square().mean().backward()
    wanted = dict(model.named_parameters())
    for name, parameter in denoiser.backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=2e-5, rtol=1e-3, msg=name)


# --- part by part, so that a difference above is found


@pytest.mark.parametrize("kernel", [1, 2, 4])
def test_the_rotation_of_packed_history_is_the_same(helios, kernel):
    from diffusers.models.transformers.transformer_helios import center_down_sample_3d, pad_for_3d_conv

    model, _ = helios
    rope, indices = model.rope, torch.tensor([[0, 3, 4, 55, 300], [1, 2, 3, 4, 5]])
    wanted = rope(indices, 7, 3, torch.device("cpu"))
    if kernel > 1:
        wanted = center_down_sample_3d(pad_for_3d_conv(wanted, (kernel,) * 3), (kernel,) * 3)
    grid = rotation_grid(indices, 7, 3, (rope.DT, rope.DY, rope.DX), rope.theta)
    got = flatten_rotation(pool_rotation(grid, kernel)).repeat_interleave(2, -1)
    torch.testing.assert_close(got, wanted.flatten(2).transpose(1, 2), atol=1e-6, rtol=0)


def test_rotating_is_the_same(helios):
    from diffusers.models.transformers.transformer_helios import apply_rotary_emb_transposed

    model, _ = helios
    rope = model.rope
    grid = rotation_grid(torch.tensor([[2, 9]]), 3, 5, (rope.DT, rope.DY, rope.DX), rope.theta)
    theirs = rope(torch.tensor([[2, 9]]), 3, 5, torch.device("cpu")).flatten(2).transpose(1, 2)
    x = torch.randn(2, 30, 3, rope.DT + rope.DY + rope.DX)
    got = rotate(x.transpose(1, 2), flatten_rotation(grid).expand(2, -1, -1)).transpose(1, 2)
    torch.testing.assert_close(got, apply_rotary_emb_transposed(x, theirs), atol=1e-6, rtol=0)


def test_time_and_text_are_embedded_the_same(helios):
    model, folder = helios
    timestep, text = torch.tensor([871.3, 30.0]), torch.randn(2, 9, 20)
    wanted = model.condition_embedder(timestep, text)
    temb, parts, ours = load(folder).backbone.condition_embedder(timestep[:, None], text)
    for one, other in zip((temb[:, 0], parts.flatten(1), ours), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=5e-6, rtol=0)


def test_a_block_is_the_same(helios):
    model, folder = helios
    config = load(folder).backbone.config
    history, section, text = (torch.randn(2, n, config.width) for n in (6, 12, 5))
    of_history, of_section = torch.randn(2, 1, 6, config.width), torch.randn(2, 12, 6, config.width)
    indices = torch.tensor([[4, 7, 9], [1, 2, 3]])
    theirs = model.rope(indices, 2, 3, torch.device("cpu")).flatten(2).transpose(1, 2)
    ours = flatten_rotation(rotation_grid(indices, 2, 3, config.rope_axes, config.theta))
    temb = torch.cat([of_history.expand(-1, 6, -1, -1), of_section], 1)
    wanted = model.blocks[1](torch.cat([history, section], 1), text, temb, theirs, 12)
    block = load(folder).backbone.blocks[1]
    got = torch.cat(block(history, section, of_history, of_section, ours, Here().attention(None, ()), text, None), 1)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def check_program(tool, folder: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, tool.__file__, folder, "--grid", "7x5", "--frames", "5", "--batch", "2"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(tool.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert f"{name}: largest difference" in done.stdout


@pytest.mark.slow
def test_the_program_knows_helios_from_its_folder(helios, tool):
    check_program(tool, helios[1], "HeliosTransformer3DModel")


@pytest.mark.slow
def test_the_program_knows_wan_from_its_folder(wan, tool):
    check_program(tool, wan[1], "WanTransformer3DModel")
