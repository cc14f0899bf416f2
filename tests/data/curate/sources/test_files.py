"""Files are found by the end of their path."""

import os

import pytest

from mpgen.data.curate.sources.files import VIDEO_SUFFIXES, Files, walk, without_suffix
from mpgen.errors import UserError


def found(root, *ends):
    path = Files(walk(root), VIDEO_SUFFIXES).find(*ends)
    return None if path is None else os.path.relpath(path, root)


def test_a_name_is_found_however_deep_and_a_path_by_its_end(touch):
    root = touch("a/b/clip.mp4", "c/other.mp4")
    assert found(root, "clip") == found(root, "b/clip") == found(root, "a/b/clip") == "a/b/clip.mp4"
    assert found(root, "c/clip") is None
    assert found(root, "lip") is None
    assert found(touch("ab/tail.mp4"), "b/tail") is None
    assert found(root, "") is None


def test_the_folder_of_the_root_itself_is_part_of_the_path(touch):
    root = touch("raw_video/1/2.mp4")
    assert found(root / "raw_video", "raw_video/1/2") == "1/2.mp4"


def test_the_first_wanted_name_that_is_there_is_taken(touch):
    assert found(touch("b.mp4", "c.mp4"), "a", "c", "b") == "c.mp4"


def test_of_several_the_one_in_the_fewest_folders_is_taken_then_the_better_container(touch):
    assert found(touch("x/clip.mp4", "clip.webm", "clip.MKV"), "clip") == "clip.MKV"
    assert found(touch("y/same.mp4", "x/same.mp4"), "same") == "x/same.mp4"


def test_what_is_no_video_is_not_found(touch):
    root = touch("._clip.mp4", "clip.mp4.part", "clip.txt", ".hidden/clip.mp4", "clip.hevc", "lost+found/clip.mp4")
    assert found(root, "clip") is None


def test_names_with_dots_keep_them(touch):
    assert found(touch("12.1.mp4", "12.10.mp4"), "12.1") == "12.1.mp4"
    assert without_suffix("a/12.10") == "a/12.10"
    assert without_suffix(" ./a/12.10.MP4 ") == "a/12.10"


def test_links_are_followed_once_even_in_a_circle(touch, tmp_path):
    root = touch("a/clip.mp4")
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "far.mp4").touch()
    (root / "linked").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to(root)
    assert sorted(os.path.relpath(path, root) for path in walk(root)) == ["a/clip.mp4", "linked/far.mp4"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"none: no such folder, wanted the one with the videos \(--root\)"):
        walk(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_told(touch):
    root = touch("closed/clip.mp4")
    (root / "closed").chmod(0)
    try:
        with pytest.raises(UserError, match="closed: the folder cannot be read: Permission denied"):
            walk(root)
    finally:
        (root / "closed").chmod(0o755)
