"""Laws of the latents cache: encoded once, trusted only when it fits, never half-written."""

import csv
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mpgen.data import cache, decoded
from mpgen.data.build import build_cache
from mpgen.data.cache import CacheDirectory, CacheSettings, open_cache, read_metadata
from mpgen.data.manifest import read_manifest
from mpgen.data.parts import Part
from mpgen.data.records import Reject
from mpgen.errors import UserError
from mpgen.video.clips import decode_clip

SETTINGS = CacheSettings(height_px=16, width_px=24, fps=24.0, max_sections=3, section_latent_frames=2)


@pytest.fixture
def records(tmp_path, make_video):
    """Videos of one, two, and more sections than are kept."""
    folder = tmp_path / "videos"
    for name, num_frames in (("one", 12), ("two", 17), ("five", 41)):
        make_video(folder / f"{name}.mp4", num_frames)
    rows = ["one.mp4,a red disc", "two.mp4,a blue square moves", "five.mp4,a red disc"]
    (folder / "manifest.csv").write_text("\n".join(["video,caption", *rows]))
    return read_manifest(folder / "manifest.csv").records


def build(records, encoders, tmp_path, settings=SETTINGS, rejects=(), **options):
    return build_cache(
        records, encoders, settings, tmp_path / "cache", progress=False, manifest_rejects=rejects, **options
    )


def directory_of(encoders, tmp_path) -> CacheDirectory:
    return CacheDirectory.of(tmp_path / "cache", SETTINGS, encoders.fingerprint)


def test_a_video_keeps_whole_sections_up_to_the_limit(records, encoders, tmp_path):
    index = build(records, encoders, tmp_path)
    assert [entry.num_sections for entry in index.entries] == [1, 2, 3]
    for entry in index.entries:
        assert load_file(entry.video_file)["latents"].shape == (3, 2 * entry.num_sections, 2, 3)


def test_the_start_image_is_encoded_alone_and_the_rest_in_its_company(records, encoders, tmp_path):
    entry = build(records, encoders, tmp_path).entries[1]
    stored = load_file(entry.video_file)
    frames = decode_clip(entry.path, 24, 16, 24, max_frames=17)
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    alone, together = encoders.vae.encode(clip[:, :, :1])[0], encoders.vae.encode(clip)[0]
    torch.testing.assert_close(stored["start"], alone)
    torch.testing.assert_close(stored["latents"], together[:, 1:])
    assert not torch.allclose(stored["start"], together[:, :1], atol=1e-3)  # this autoencoder would have told
    torch.testing.assert_close(stored["image"], encoders.image.encode(clip[:, :, 0])[0])


def test_sections_may_be_encoded_alone_in_a_cache_of_their_own(records, encoders, tmp_path):
    alone = replace(SETTINGS, sections_alone=True)
    index = build(records, encoders, tmp_path, alone)
    assert [entry.num_sections for entry in index.entries] == [2, 3, 3]  # of 12, 17 and 41 frames, 5 a section
    assert index.directory.path != directory_of(encoders, tmp_path).path
    assert index.directory.settings == alone
    entry = index.entries[0]
    frames = decode_clip(entry.path, 24, 16, 24, max_frames=11)
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    wanted = [encoders.vae.encode(clip[:, :, first : first + 5])[0] for first in (1, 6)]
    torch.testing.assert_close(load_file(entry.video_file)["latents"], torch.cat(wanted, 1))


def test_captions_are_cached_once_each_without_padding(records, encoders, tmp_path):
    index = build(records, encoders, tmp_path)
    first, second, third = (entry.text_file for entry in index.entries)
    assert first == third != second
    assert encoders.text.calls == 1
    texts = load_file(first)
    assert texts["tokens"][:, 0].tolist() == [1, 3, 4]
    assert texts["mask"].all()
    assert texts["pooled"].tolist() == [8] * 5


def test_a_second_build_neither_encodes_nor_decodes_nor_reads_a_source(records, encoders, tmp_path, monkeypatch):
    first = build(records, encoders, tmp_path)
    calls = encoders.vae.calls, encoders.text.calls
    monkeypatch.setattr(decoded, "decode_clip", None)
    monkeypatch.setattr(decoded, "hash_file", None)
    monkeypatch.setattr(cache, "hash_file", None)
    second = build(records, encoders, tmp_path)
    assert (encoders.vae.calls, encoders.text.calls) == calls
    assert (first.encoded, first.reused) == (3, 0)
    assert (second.encoded, second.reused, second.stale) == (0, 3, 0)
    assert second.entries == first.entries


def test_opening_gives_what_building_gave(records, encoders, tmp_path):
    built = build(records, encoders, tmp_path, rejects=[Reject(9, "x.mp4", "missing", "")])
    assert open_cache(records, directory_of(encoders, tmp_path)) == replace(built, encoded=0)


def test_opening_what_was_not_built_is_an_error(records, encoders, tmp_path):
    build(records[:2], encoders, tmp_path)
    with pytest.raises(UserError, match="holds no cache of this manifest"):
        open_cache(records, directory_of(encoders, tmp_path))


def test_other_settings_or_encoders_are_another_directory(records, encoders, other_encoders, tmp_path):
    index = build(records, encoders, tmp_path)
    other_size = build(records, encoders, tmp_path, replace(SETTINGS, height_px=8))
    other_encoder = build(records, other_encoders, tmp_path)
    assert len({index.directory, other_size.directory, other_encoder.directory}) == 3
    assert all(entry.video_file.exists() for entry in index.entries)  # nothing was deleted


def test_a_changed_source_is_encoded_again(records, encoders, tmp_path, make_video):
    before = load_file(build(records, encoders, tmp_path).entries[0].video_file)["start"]
    shutil.copy(records[2].path, records[0].path)
    index = build(records, encoders, tmp_path)
    assert (index.encoded, index.reused, index.stale) == (1, 2, 1)
    assert index.entries[0].num_sections == 3
    torch.testing.assert_close(load_file(index.entries[0].video_file)["start"], before)  # the same first grey


def test_a_touched_source_with_the_same_bytes_is_trusted(records, encoders, tmp_path):
    build(records, encoders, tmp_path)
    os.utime(records[0].path, ns=(1, 1))
    assert build(records, encoders, tmp_path).reused == 3


@pytest.mark.parametrize("content", [b"", b"half", None], ids=["empty", "garbage", "cut"])
def test_a_half_written_item_is_encoded_again(records, encoders, tmp_path, content):
    file = build(records, encoders, tmp_path).entries[1].video_file
    whole, latents = file.read_bytes(), load_file(file)["latents"].clone()  # it maps the file
    file.write_bytes(whole[:-7] if content is None else content)
    index = build(records, encoders, tmp_path)
    assert (index.encoded, index.stale) == (1, 1)
    assert torch.equal(load_file(file)["latents"], latents)


def test_an_item_of_other_settings_in_the_wrong_place_is_not_trusted(records, encoders, tmp_path):
    index = build(records, encoders, tmp_path)
    other = build(records, encoders, tmp_path, replace(SETTINGS, max_sections=1))
    shutil.copy(other.entries[2].video_file, index.entries[2].video_file)
    assert build(records, encoders, tmp_path).stale == 1


def test_an_interruption_leaves_whole_items_only_and_the_next_run_goes_on(records, encoders, tmp_path, monkeypatch):
    real_encode, images = encoders.image.encode, []

    def interrupted(image):
        images.append(image)
        if len(images) == 2:
            raise KeyboardInterrupt
        return real_encode(image)

    monkeypatch.setattr(encoders.image, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(records, encoders, tmp_path)
    (tmp_path / "cache" / ".x.safetensors.1.tmp").write_bytes(b"half")
    monkeypatch.undo()
    index = build(records, encoders, tmp_path)
    assert (index.reused, index.encoded, index.stale) == (1, 2, 0)


def test_nothing_temporary_stays_behind(records, encoders, tmp_path):
    build(records, encoders, tmp_path)
    assert not [path for path in (tmp_path / "cache").rglob("*") if ".tmp" in path.name]


def rejected(index) -> list[tuple[str, str]]:
    with index.rejects_file.open(encoding="utf-8", newline="") as file:
        return [(row["row"], row["reason"]) for row in csv.DictReader(file)]


def test_bad_videos_are_listed_and_the_run_goes_on(records, encoders, tmp_path, make_video):
    records[0].path.write_bytes(b"")
    records[1].path.unlink()
    index = build(records, encoders, tmp_path, rejects=[Reject(7, "x.mp4", "bad_span", "end 1.0 s is not after 2.0 s")])
    assert [entry.uid for entry in index.entries] == [records[2].uid]
    assert rejected(index) == [("2", "corrupt_open"), ("3", "missing"), ("7", "bad_span")]
    assert index.rejected == 3


def test_a_cached_video_whose_source_is_gone_is_used_and_counted(records, encoders, tmp_path):
    built = build(records, encoders, tmp_path)
    records[1].path.unlink()
    index = build(records, encoders, tmp_path)
    assert (index.entries, index.sourceless, rejected(index)) == (built.entries, 1, [])
    built.entries[1].video_file.unlink()
    index = build(records, encoders, tmp_path)
    assert (len(index.entries), rejected(index)) == (2, [("3", "missing")])


def test_a_video_of_less_than_a_section_is_too_short(records, encoders, tmp_path, make_video):
    make_video(records[0].path, num_frames=8)
    assert rejected(build(records, encoders, tmp_path)) == [("2", "too_short")]


def test_latents_that_are_not_finite_are_a_failure_not_zeros(records, encoders, tmp_path):
    encoders.vae.broken = True
    with pytest.raises(UserError, match=r"no video is left of 3 rows \(3 nan_latents\): see .*rejects.csv"):
        build(records, encoders, tmp_path)
    assert not list(directory_of(encoders, tmp_path).path.rglob("*.safetensors"))


def test_latents_can_be_stored_in_half_the_space(records, encoders, tmp_path):
    full = build(records, encoders, tmp_path).entries[0]
    half = build(records, encoders, tmp_path, replace(SETTINGS, dtype="bfloat16")).entries[0]
    stored = load_file(half.video_file)["latents"]
    assert stored.dtype == torch.bfloat16
    torch.testing.assert_close(stored.float(), load_file(full.video_file)["latents"], atol=0.01, rtol=0.01)


def test_what_made_an_item_is_written_in_it(records, encoders, tmp_path):
    entry = build(records, encoders, tmp_path).entries[2]
    with safe_open(entry.video_file, "np") as file:
        metadata = file.metadata()
        assert np.isfinite(file.get_tensor("latents")).all()
    assert metadata["uid"] == entry.uid
    assert (metadata["num_sections"], metadata["frames_decoded"], metadata["fps"]) == ("3", "25", "24.0")


def test_text_features_take_half_the_space_too(records, encoders, tmp_path):
    index = build(records, encoders, tmp_path, replace(SETTINGS, dtype="bfloat16"))
    stored = load_file(index.entries[1].text_file)
    assert (stored["tokens"].dtype, stored["pooled"].dtype) == (torch.bfloat16, torch.bfloat16)
    assert stored["mask"].dtype == torch.bool
    assert stored["tokens"][:, 0].tolist() == [1, 4, 6, 5]


def test_values_that_overflow_the_stored_type_are_a_failure(records, encoders, tmp_path, monkeypatch):
    real_encode = encoders.image.encode
    monkeypatch.setattr(encoders.image, "encode", lambda image: real_encode(image).double() * 1e300)
    with pytest.raises(UserError, match="3 nan_latents"):
        build(records, encoders, tmp_path)


def test_what_failed_is_not_tried_again_until_its_file_changes_or_one_asks(records, encoders, tmp_path, monkeypatch):
    good = records[0].path.read_bytes()
    records[0].path.write_bytes(b"no video")
    first = build(records, encoders, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(decoded, "decode_clip", None)
        second = build(records, encoders, tmp_path)
    assert rejected(first) == rejected(second) == [("2", "corrupt_open")]
    assert first.rejects_file.read_bytes() == second.rejects_file.read_bytes()
    assert build(records, encoders, tmp_path, retry_failed=True).rejected == 1
    records[0].path.write_bytes(good)
    assert [entry.num_sections for entry in build(records, encoders, tmp_path).entries] == [1, 2, 3]


def test_a_line_that_a_kill_cut_off_costs_a_second_try(records, encoders, tmp_path):
    records[0].path.write_bytes(b"no video")
    build(records, encoders, tmp_path)
    file = directory_of(encoders, tmp_path).failures_file(Part())
    file.write_bytes(file.read_bytes()[:-20])
    assert rejected(build(records, encoders, tmp_path)) == [("2", "corrupt_open")]


def test_an_item_of_another_video_is_not_trusted(records, encoders, tmp_path):
    index = build(records, encoders, tmp_path)
    shutil.copy(index.entries[2].video_file, index.entries[1].video_file)
    assert build(records, encoders, tmp_path).stale == 1


def test_parts_share_out_videos_and_captions_and_the_whole_finds_everything_done(records, encoders, tmp_path):
    bad = [Reject(9, "x.mp4", "missing", "")]
    shares = [build(records, encoders, tmp_path, rejects=bad, part=Part(number, 3)) for number in (1, 2, 3)]
    assert sorted(entry.uid for share in shares for entry in share.entries) == sorted(record.uid for record in records)
    assert sum(share.encoded for share in shares) == 3
    assert [share.rejects_file.name for share in shares] == [f"rejects_part_{n}_of_3.csv" for n in (1, 2, 3)]
    assert [share.rejected for share in shares] == [1, 0, 0]
    calls = encoders.vae.calls, encoders.text.calls
    joined = open_cache(records, directory_of(encoders, tmp_path))
    whole = build(records, encoders, tmp_path, rejects=bad)
    assert (encoders.vae.calls, encoders.text.calls) == calls
    assert whole.reused == 3
    assert joined.entries == whole.entries
    assert joined.rejected == whole.rejected == 1


def test_some_parts_are_not_the_whole(records, encoders, tmp_path):
    build(records, encoders, tmp_path, part=Part(1, 2))
    with pytest.raises(UserError, match="not all parts"):
        open_cache(records, directory_of(encoders, tmp_path))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_part_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="wanted"):
        Part.parse(text)


def test_decoding_in_other_processes_gives_the_same_tensors(records, encoders, tmp_path):
    here = build(records, encoders, tmp_path)
    there = build_cache(records, encoders, SETTINGS, tmp_path / "other", progress=False, num_workers=2)
    for first, second in zip(here.entries, there.entries, strict=True):
        ours, theirs = load_file(first.video_file), load_file(second.video_file)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert read_metadata(first.video_file) == read_metadata(second.video_file)


def test_a_decoder_that_takes_too_long_is_a_failure_and_the_others_go_on(records, encoders, tmp_path):
    slow = records[1].path
    slow.unlink()
    os.mkfifo(slow)  # opens, and never gives a byte
    records[1] = replace(records[1], path=slow)
    index = build(records, encoders, tmp_path, num_workers=2, timeout_seconds=5)
    assert [entry.uid for entry in index.entries] == [records[0].uid, records[2].uid]
    assert rejected(index) == [("3", "timeout")]


def test_a_new_cache_says_how_it_differs_from_those_beside_it(records, encoders, other_encoders, tmp_path):
    build(records, encoders, tmp_path)
    other = build(records, other_encoders, tmp_path, replace(SETTINGS, height_px=8))
    (line,) = other.directory.differences()
    assert "height_px 16 -> 8" in line
    assert "encoders plain -> other" in line
    assert "width_px" not in line
