import io

import av
import numpy as np
import pytest

from mpgen.arena.library import Video, read_library
from mpgen.arena.prepare import degraded, pad_together, stripped
from mpgen.video.clips import read_video
from mpgen.video.copying import copy_pictures
from mpgen.video.errors import VideoError

from .conftest import FPS, HEIGHT_PX, LEAK, METHODS, PROMPTS, WIDTH_PX, write_video


def sent(prepared) -> bytes:
    return b"".join(prepared.chunks())


def test_the_pictures_are_those_of_the_source_bit_for_bit(library, files):
    for key, video in library.videos.items():
        np.testing.assert_array_equal(read_video(files[key].path), read_video(video.path))


def test_nothing_in_the_bytes_names_a_method_or_an_encoder(library, files):
    source = library.videos[PROMPTS[0], METHODS[0]].path.read_bytes()
    assert LEAK.encode() in source  # or this test could not fail
    assert b"x264" in source
    for prepared in files.values():
        data = sent(prepared)
        for word in (LEAK, "x264", "Lavf", "Lavc", "crf=", *METHODS, *PROMPTS):
            assert word.encode() not in data, word


def test_files_of_a_prompt_have_one_length_and_still_play(library, files):
    sources = {library.videos[PROMPTS[0], method].path.stat().st_size for method in METHODS}
    assert len(sources) > 1
    together = [prepared for key, prepared in files.items() if key[0] == PROMPTS[0]]
    assert len({len(sent(prepared)) for prepared in together}) == 1
    for prepared in together:
        assert len(sent(prepared)) == prepared.num_bytes
        with av.open(io.BytesIO(sent(prepared))) as container:
            assert sum(1 for _ in container.decode(video=0)) == 3


@pytest.mark.parametrize("size", [(1 << 16) - 8, (1 << 16) - 7, (1 << 16) - 1, 1 << 16, 3])
def test_the_padding_is_a_whole_box_for_every_size(tmp_path, size):
    (tmp_path / "v").write_bytes(b"x" * size)
    prepared = pad_together([tmp_path / "v"])[0]
    data = sent(prepared)
    assert len(data) == prepared.num_bytes
    assert len(data) % (1 << 16) == 0
    assert data[size + 4 : size + 8] == b"free"
    assert int.from_bytes(data[size : size + 4], "big") == len(data) - size


def test_a_copy_is_made_once_and_again_when_its_source_changes(tmp_path):
    write_video(tmp_path / "a" / "cat.mp4")
    write_video(tmp_path / "b" / "cat.mp4")
    source = read_library(tmp_path).videos["cat", "a"]
    first = stripped(source, tmp_path / "copies")
    made = first.stat().st_mtime_ns
    assert stripped(source, tmp_path / "copies") == first
    assert first.stat().st_mtime_ns == made
    write_video(source.path, frames=5)
    assert stripped(source, tmp_path / "copies") != first


def test_the_spoilt_copy_is_plainly_worse_and_as_long(tmp_path):
    write_video(tmp_path / "cat.mp4", frames=12)
    source = Video(tmp_path / "cat.mp4", 12 / FPS, float(FPS), HEIGHT_PX, WIDTH_PX)
    spoilt = read_video(degraded(source, tmp_path / "copies"))
    real = read_video(source.path)
    assert spoilt.shape == real.shape
    assert np.abs(spoilt.astype(float) - real).mean() > 10
    moves = np.abs(np.diff(spoilt.astype(float), axis=0)).mean((1, 2, 3))
    assert (moves < 1).sum() >= 5  # it stands still every other frame
    assert [path.suffix for path in (tmp_path / "copies").iterdir()] == [".mp4"]  # nothing half-made is left


def test_a_file_that_breaks_on_the_way_leaves_no_copy(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 4000)
    with pytest.raises(VideoError, match=r"bad\.mp4: cannot be opened as a video"):
        copy_pictures(tmp_path / "bad.mp4", tmp_path / "copy.mp4")
