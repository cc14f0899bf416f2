import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpgen.encoders.hunyuan import HunyuanEncoders
from mpgen.encoders.released import MIB, PARTS, hash_ends
from mpgen.errors import UserError


def only_line(folder, use) -> str:
    """What a user is told, which must be one line."""
    with pytest.raises(UserError) as caught:
        use(HunyuanEncoders(folder, device="cpu", dtype="float32", vae_dtype="float32"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(encoders: HunyuanEncoders) -> None:
    encoders.check()


def encode_text(encoders: HunyuanEncoders) -> None:
    encoders.text.encode(["a red disc moves left."])


def encode_clip(encoders: HunyuanEncoders) -> None:
    encoders.vae.encode(torch.zeros(1, 3, 5, 16, 24))


def test_a_whole_folder_passes(released_folder):
    HunyuanEncoders(released_folder).check()


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_says_what_it_is_where_it_comes_from_and_where_it_goes(copied_folder, part):
    shutil.rmtree(copied_folder / part)
    for use in (check, lambda encoders: encoders.fingerprint):
        said = only_line(copied_folder, use)
        assert str(copied_folder / part) in said
        repository = "lllyasviel/flux_redux_bfl" if part in ("image_encoder", "feature_extractor") else "hunyuanvideo-"
        assert repository in said
        assert f"hf download {PARTS[part].repository} --include '{part}/*' --local-dir {copied_folder}" in said


def test_a_folder_that_is_not_there_is_told_when_a_width_is_asked_for(tmp_path):
    encoders = HunyuanEncoders(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"nowhere/text_encoder/config\.json is missing"):
        _ = encoders.text.token_width


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_weight_file_that_is_cut_off_is_told_before_it_is_read(copied_folder, kept):
    file = copied_folder / "text_encoder" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    for use in (check, encode_text):
        assert f"{file} is damaged or cut off" in only_line(copied_folder, use)


def test_a_missing_shard_is_named(copied_folder):
    folder = copied_folder / "text_encoder"
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({name: weights[name] for name in own}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()

    encode_text(HunyuanEncoders(copied_folder, device="cpu", dtype="float32"))
    (folder / "model-00002-of-00002.safetensors").unlink()
    for use in (check, encode_text):
        assert "lacks model-00002-of-00002.safetensors" in only_line(copied_folder, use)


@pytest.mark.parametrize(("part", "key"), [("text_encoder", "model_type"), ("vae", "_class_name")])
def test_a_model_of_another_kind_is_refused(copied_folder, part, key):
    file = copied_folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: "t5"}))
    for use in (check, encode_text if part == "text_encoder" else encode_clip):
        assert f"{file}: {key} is 't5', wanted '{PARTS[part].kind[1]}'" in only_line(copied_folder, use)


def test_pickled_weights_are_never_opened(copied_folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (copied_folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(Trap(), copied_folder / "vae" / "diffusion_pytorch_model.bin")
    for use in (check, encode_clip):
        assert "holds no .safetensors file" in only_line(copied_folder, use)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("part", "file", "use"),
    [
        ("vae", "diffusion_pytorch_model.safetensors", encode_clip),
        ("text_encoder", "model.safetensors", encode_text),
        ("text_encoder_2", "model.safetensors", encode_text),
    ],
)
def test_a_weight_that_is_missing_is_never_made_up(copied_folder, part, file, use):
    weights = load_file(copied_folder / part / file)
    gone = next(name for name in weights if name.endswith("weight"))
    del weights[gone]
    save_file(weights, copied_folder / part / file, {"format": "pt"})
    said = only_line(copied_folder, use)
    assert str(copied_folder / part) in said
    assert gone.removeprefix("text_model.") in said


@pytest.mark.parametrize(("part", "file", "use"), [("vae", "diffusion_pytorch_model.safetensors", encode_clip)])
def test_a_weight_of_another_shape_is_refused(copied_folder, part, file, use):
    weights = load_file(copied_folder / part / file)
    name = next(name for name in weights if name.endswith("conv_in.conv.weight"))
    weights[name] = weights[name][:-1].clone()
    save_file(weights, copied_folder / part / file, {"format": "pt"})
    assert str(copied_folder / part) in only_line(copied_folder, use)


def test_a_tokenizer_that_splits_the_template_otherwise_is_refused(copied_folder):
    file = copied_folder / "tokenizer" / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokenizer["post_processor"] = None  # which adds the first token
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    assert "makes 94 tokens of the beginning of the template, wanted 95" in only_line(copied_folder, encode_text)


def test_a_missing_library_is_named_with_what_to_install(released_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    said = only_line(released_folder, encode_clip)
    assert "diffusers is not installed" in said
    assert "pip install 'mpgen[hunyuan]'" in said


def test_a_large_file_is_hashed_by_its_size_header_and_ends(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file({"w": torch.zeros(5 * MIB // 4), "v": torch.ones(7)}, file)
    content = file.read_bytes()
    header = int.from_bytes(content[:8], "little")
    before = hash_ends(file)
    for place, seen in ((20, True), (8 + header, True), (len(content) - 1, True), (len(content) // 2, False)):
        other = bytearray(content)
        other[place] ^= 1
        file.write_bytes(other)
        assert (hash_ends(file) != before) is seen, place
    file.write_bytes(content[: 3 * MIB] + content[4 * MIB :])
    assert hash_ends(file) != before
