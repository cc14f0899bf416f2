"""`mpgen data check` finds every kind of damage, says which, and finds nothing where nothing is."""

import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mpgen.data.build import build_cache
from mpgen.data.cache import CacheSettings, open_cache
from mpgen.data.check import check_cache
from mpgen.data.manifest import read_manifest

SETTINGS = CacheSettings(height_px=16, width_px=24, fps=24.0, max_sections=3, section_latent_frames=2)


@pytest.fixture
def built(tmp_path, make_video, encoders):
    """Records of two videos, and their cache."""
    folder = tmp_path / "videos"
    for name, num_frames in (("one", 12), ("two", 17)):
        make_video(folder / f"{name}.mp4", num_frames)
    (folder / "manifest.csv").write_text("video,caption\none.mp4,a red disc\ntwo.mp4,a blue square moves")
    records = read_manifest(folder / "manifest.csv").records
    return records, build_cache(records, encoders, SETTINGS, tmp_path / "cache", progress=False)


def kinds(records, index, **options) -> list[str]:
    return [finding.kind for finding in check_cache(records, index.directory, progress=False, **options).findings]


def rewrite(file, change, metadata=None):
    """The same item with other tensors."""
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file, said | (metadata or {}))


def test_a_good_cache_has_no_findings(built):
    records, index = built
    checked = check_cache(records, index.directory, progress=False)
    assert (checked.videos, checked.sections, checked.failed) == (2, 3, 0)
    assert checked.findings == checked.leftovers == ()


def spoil(tensors):
    tensors["latents"][0, 1, 1, 2] = torch.inf


def cut(tensors):
    tensors["latents"] = tensors["latents"][:, 1:].contiguous()


def drop(tensors):
    del tensors["image"]


def widen(tensors):
    tensors["start"] = tensors["start"].double()


@pytest.mark.parametrize(
    ("change", "kind", "in_header"),
    [
        (spoil, "not_finite", False),
        (cut, "wrong_shape", True),
        (drop, "wrong_shape", True),
        (widen, "wrong_dtype", False),
    ],
)
def test_wrong_tensors_are_found(built, change, kind, in_header):
    records, index = built
    rewrite(index.entries[1].video_file, change)
    assert kinds(records, index) == [kind]
    assert kinds(records, index, headers_only=True) == ([kind] if in_header else [])


def test_a_cut_off_file_is_found(built):
    records, index = built
    file = index.entries[0].video_file
    file.write_bytes(file.read_bytes()[:-3])
    assert kinds(records, index) == ["damaged"]


def test_an_item_in_the_place_of_another_is_found(built):
    records, index = built
    shutil.copy(index.entries[0].video_file, index.entries[1].video_file)
    assert kinds(records, index) == ["misplaced"]


def test_another_source_is_found(built):
    records, index = built
    shutil.copy(records[1].path, records[0].path)
    assert kinds(records, index) == ["stale"]


def test_a_source_that_is_gone_is_found(built):
    records, index = built
    records[0].path.unlink()
    assert kinds(records, index) == []  # what was cached of it can be trained on
    index.entries[0].video_file.unlink()
    assert kinds(records, index) == ["source_missing"]


def test_an_item_that_is_gone_is_found(built):
    records, index = built
    index.entries[0].video_file.unlink()
    assert kinds(records, index) == ["not_cached"]


def test_a_video_that_cannot_be_used_is_no_fault_of_the_cache(built, encoders, tmp_path):
    records, index = built
    records[0].path.write_bytes(b"no video")
    index.entries[0].video_file.unlink()
    build_cache(records, encoders, SETTINGS, tmp_path / "cache", progress=False)
    checked = check_cache(records, index.directory, progress=False)
    assert (checked.videos, checked.failed, checked.findings) == (1, 1, ())


def test_text_that_is_gone_or_broken_is_found(built):
    records, index = built
    rewrite(index.entries[0].text_file, lambda tensors: tensors["tokens"].fill_(torch.nan))
    index.entries[1].text_file.unlink()
    assert kinds(records, index) == ["not_finite", "text_missing"]
    assert kinds(records, index, headers_only=True) == ["text_missing"]


def test_an_index_that_is_gone_or_says_something_else_is_found(built):
    records, index = built
    (file,) = index.directory.index_folder(records).iterdir()
    said = file.read_text()
    file.write_text(said.replace(f'"{records[1].uid}": 2', f'"{records[1].uid}": 1'))
    assert open_cache(records, index.directory).entries[1].num_sections == 1
    assert kinds(records, index) == ["not_indexed"]
    file.unlink()
    assert kinds(records, index) == ["no_index"]


def test_what_a_killed_process_left_is_told(built):
    records, index = built
    half = index.entries[0].video_file.with_name(".x.safetensors.1a2b.tmp")
    half.write_bytes(b"half")
    checked = check_cache(records, index.directory, progress=False)
    assert (checked.findings, checked.leftovers) == ((), (half,))
