"""`mpgen generate --model` on folders of Helios, of tiny random parts, as diffusers and transformers write them."""

import importlib.util
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from command_line import generate

from mpgen.errors import UserError
from mpgen.video.clips import read_video

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Helios-Distilled, as far as its `model_index.json` says."""
    spec = importlib.util.spec_from_file_location("wan_parts", Path(__file__).parent.parent / "encoders/test_wan.py")
    parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    made = tmp_path_factory.mktemp("model") / "Helios"
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import HeliosTransformer3DModel

        parts.write_wan_encoders(made)
        torch.manual_seed(4)
        HeliosTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1, ffn_dim=40,
            text_dim=20, freq_dim=32, rope_dim=(4, 6, 6),
        ).save_pretrained(made / "transformer")  # fmt: skip
    write_index(made, is_distilled=True)
    return made


def write_index(folder: Path, **settings: object) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "HeliosPyramidPipeline"} | settings))


def test_helios_distilled_samples_by_its_own_schedule(folder, tmp_path):
    output, size = tmp_path / "out.mp4", {"height_px": 64, "width_px": 64}
    generate(output, model=folder, prompt="a red disc", seconds=1, device="cpu", **size)
    assert read_video(output).shape == (33, 64, 64, 3)
    sampling = json.loads(output.with_suffix(".json").read_text())["sampling"]
    assert (sampling["sampler"], sampling["steps"], sampling["guidance_scale"]) == ("helios_distilled", 6, 1.0)
    given = {"model": folder, "prompt": "a red disc", "device": "cpu"}
    for options, complaint in (
        (size | {"steps": 4}, "--steps 4: wanted a multiple of 3"),
        ({"height_px": 48, "width_px": 64}, "a quarter of 6x8 latents.*: wanted multiples of 8"),
        (size | {"guidance_scale": 5.0}, "--guidance_scale 5: Helios-Distilled was trained to need none"),
        (size | {"cache": "first_block"}, "--cache first_block: steps of --sampler helios_distilled"),
    ):
        with pytest.raises(UserError, match=complaint):
            generate(tmp_path / "none.mp4", **given, **options)
    assert not (tmp_path / "none.mp4").exists()


def test_helios_mid_says_what_it_lacks_and_its_blocks_may_be_in_8_bits(folder, tmp_path, capsys):
    mid = shutil.copytree(folder, tmp_path / "mid")
    write_index(mid, is_distilled=False)
    output = tmp_path / "out.mp4"
    size = {"height_px": 16, "width_px": 32}
    generate(output, model=mid, prompt="a", seconds=1, steps=1, device="cpu", block_weights="float8", **size)
    assert "CFG-Zero" in capsys.readouterr().err
    record = json.loads(output.with_suffix(".json").read_text())
    assert (record["sampling"]["sampler"], record["model"]["block_weights"]) == ("euler", "float8")
