"""`mpgen generate --model` on a pipeline folder of tiny random parts, as diffusers and transformers write it."""

import importlib.util
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import generate
from PIL import Image
from safetensors.torch import save_file

from mpgen import cli
from mpgen.checkpoints import load_released, model_card
from mpgen.checkpoints.command import export
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.hunyuan import HunyuanEncoders
from mpgen.errors import UserError
from mpgen.flow import shift_for_tokens
from mpgen.memory.semanticpack import SemanticPackConfig
from mpgen.video.clips import read_video
from mpgen.video.writing import VideoWriter

pytest.importorskip("diffusers")

SIZE = {"height_px": 32, "width_px": 48}
CAPTION = "a red disc moves left."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Encoders as the tests of the encoders write them, and a transformer that fits them."""
    spec = importlib.util.spec_from_file_location(
        "released_parts", Path(__file__).parent.parent / "encoders" / "conftest.py"
    )
    parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    made = tmp_path_factory.mktemp("model") / "HunyuanVideo"
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import HunyuanVideoFramepackTransformer3DModel

        parts.write_released_encoders(made)
        torch.manual_seed(4)
        transformer = HunyuanVideoFramepackTransformer3DModel(
            in_channels=5, out_channels=5, num_attention_heads=2, attention_head_dim=16, num_layers=1,
            num_single_layers=2, num_refiner_layers=1, text_embed_dim=24, pooled_projection_dim=18, image_proj_dim=20,
            rope_axes_dim=(4, 6, 6), has_image_proj=True, has_clean_x_embedder=True,
        )  # fmt: skip
        transformer.save_pretrained(made / "transformer")
    return made


Made = tuple[np.ndarray, dict]


@pytest.fixture(scope="module")
def make(folder, tmp_path_factory) -> Callable[..., Made]:
    """Makes a video of so many sections from the folder; gives its frames and what it says of itself."""
    place, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    for name in ("start", "end"):
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(place / f"{name}.png")

    def make(num_sections: int = 1, end_image: bool = False, **options: object) -> Made:
        given = {"model": folder, "prompt": CAPTION, "steps": 1, "device": "cpu", "seconds": 1.2 * num_sections} | SIZE
        given |= {"image": place / "start.png"} if "continue_from" not in options else {}
        given |= {"end_image": place / "end.png"} if end_image else {}
        generate(place / "out.mp4", **(given | {"overwrite": True} | options))
        return read_video(place / "out.mp4").astype(int), json.loads((place / "out.json").read_text())

    return make


@pytest.fixture(scope="module")
def one_section(make) -> np.ndarray:
    return make()[0]


@pytest.fixture(scope="module")
def two_sections(make) -> Made:
    return make(2)


def test_a_released_folder_makes_a_video_with_one_command(two_sections, folder):
    video, card = two_sections
    assert video.shape == (73, 32, 48, 3)
    assert card["fps"] == 30.0
    assert card["sampling"]["shift"] == pytest.approx(shift_for_tokens(9 * 2 * 3))
    assert card["sampling"]["guidance_scale"] == 10.0
    assert card["model"]["released"] == str(folder)


def test_a_suite_is_at_the_papers_24_frames_a_second(folder, tmp_path):
    Image.fromarray(np.full((40, 56, 3), 90, np.uint8)).save(tmp_path / "start.png")
    (tmp_path / "suite.csv").write_text("name,image,prompt,seconds\none,start.png,x,0.1\n")
    generate(tmp_path / "made", model=folder, suite=tmp_path / "suite.csv", steps=1, device="cpu", **SIZE)
    card = json.loads((tmp_path / "made" / "one.json").read_text())
    assert (card["fps"], card["model"]["ema"]) == (24.0, None)


def test_the_command_line_is_enough(folder, tmp_path, monkeypatch, capsys):
    Image.fromarray(np.full((40, 56, 3), 90, np.uint8)).save(tmp_path / "start.png")
    words = f"mpgen generate --model {folder} --image {tmp_path}/start.png --prompt x --steps 1 --seconds 0.1 "
    words += "--resolution 64 --order f0 --sampler unipc --shift auto --offload true --device cpu "
    words += f"--output {tmp_path}/out.mp4"
    monkeypatch.setattr(sys, "argv", words.split())
    cli.main()
    assert f"{tmp_path}/out.mp4: 37 frames, 1.2 s" in capsys.readouterr().out
    assert read_video(tmp_path / "out.mp4").shape == (37, 48, 80, 3)  # 40 x 56 is nearest in shape to 512 x 768


def test_offloading_changes_no_pixel(make, one_section):
    assert np.array_equal(make(offload=True)[0], one_section)


def test_the_orders_make_different_videos_of_the_same_length(make, two_sections):
    (forward, _), (inverted, card) = two_sections, make(2, order="f0")
    assert forward.shape == inverted.shape
    assert card["order"] == "f0"
    assert np.abs(forward - inverted)[1:].mean() > 0.5
    assert np.array_equal(forward[0], inverted[0])


def test_an_end_image_changes_what_is_made_from_the_end(make):
    (plain, _), (ended, card) = make(order="f0"), make(order="f0", end_image=True)
    assert card["end_image"]
    assert np.abs(plain - ended).max() > 0


def test_the_encoders_may_lie_elsewhere(make, one_section, folder, tmp_path):
    shutil.copytree(folder / "transformer", tmp_path / "FramePackI2V_HY")
    video = make(model=tmp_path / "FramePackI2V_HY", encoders=folder)[0]
    assert np.array_equal(video, one_section)


def test_a_lora_file_is_merged(make, one_section, tmp_path):
    name = "transformer.single_transformer_blocks.0.attn.to_q"
    rows = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    save_file(
        {f"{name}.lora_A.weight": rows, f"{name}.lora_B.weight": 9 * rows.T.contiguous()}, tmp_path / "l.safetensors"
    )
    merged = make(lora=[tmp_path / "l.safetensors"])[0]
    assert np.abs(one_section - merged).max() > 0


@pytest.fixture
def memory(folder, tmp_path) -> Path:
    """A checkpoint as `mpgen fit` writes it, trained from the folder's weights."""
    semantic = SemanticPackConfig(memorize_layers=1, window_patch=(3, 2, 2))
    config = DenoiserConfig(load_released(folder).backbone.config, semantic)
    denoiser = load_released(folder, config)
    with torch.no_grad():
        torch.nn.init.normal_(denoiser.memory.to_tokens.weight)
    encoders = HunyuanEncoders(folder, "cpu", "float32", "float32")
    save_checkpoint(tmp_path / "memory.ckpt", denoiser, model_card(config, encoders, 4.0, 32, 48, 24.0))
    return tmp_path / "memory.ckpt"


def save_checkpoint(path: Path, denoiser: Denoiser, card: dict) -> None:
    state = {f"denoiser.{name}": tensor for name, tensor in denoiser.state_dict().items()}
    torch.save({"state_dict": state, "mpgen": card, "global_step": 7}, path)


def test_a_memory_is_laid_over_released_weights(make, memory):
    plain = make(guidance_scale=4.0, seconds=1.2, fps=24.0)[0]
    video, card = make(memory=memory, ema=False, seconds=1.2)
    assert (card["fps"], card["sampling"]["guidance_scale"], card["checkpoint"]["steps"]) == (24.0, 4.0, 7)
    assert video.shape == plain.shape
    assert np.abs(video - plain).max() > 0


def test_an_exported_memory_is_the_same(make, memory, tmp_path):
    export(memory, tmp_path / "exported", ema=False)
    video = make(memory=memory, ema=False)[0]
    exported, card = make(memory=tmp_path / "exported")
    assert np.array_equal(video, exported)
    assert card["checkpoint"]["steps"] == 7


def test_a_memory_of_another_backbone_is_refused(make, memory, tmp_path):
    checkpoint = torch.load(memory, weights_only=True)
    checkpoint["state_dict"]["denoiser.backbone.proj_out.bias"] = torch.zeros(3)
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt does not fit --model: backbone\.proj_out\.bias is \[3\]"):
        make(memory=tmp_path / "other.ckpt", ema=False)


def test_a_memory_without_averages_says_so(make, memory):
    with pytest.raises(UserError, match="--ema false"):
        make(memory=memory)


def test_a_given_video_goes_on(make, tmp_path):
    ramp = np.linspace(0, 255, 48).astype(np.uint8)[None, :, None].repeat(32, 0).repeat(3, 2)
    with VideoWriter(tmp_path / "given.mp4", 30, 32, 48) as writer:
        for number in range(80):  # 7 frames more than a start frame and two sections
            writer.write(np.roll(ramp, number // 4, 1))
    given = read_video(tmp_path / "given.mp4").astype(int)
    video, card = make(continue_from=tmp_path / "given.mp4")
    assert card["context_frames"] == 80
    assert len(video) == 80 + 36
    assert np.abs(video[:80] - given).mean() < 6


def test_a_given_video_shorter_than_a_section_is_refused(make, tmp_path):
    with VideoWriter(tmp_path / "short.mp4", 30, 32, 48) as writer:
        for _ in range(36):
            writer.write(np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(UserError, match=r"has 36 frames .*wanted at least 37"):
        make(continue_from=tmp_path / "short.mp4")


def test_a_folder_without_weights_is_one_line(make, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        make(model=tmp_path / "empty")
    assert "\n" not in str(error.value)
