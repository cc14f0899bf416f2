import pytest

from mpgen.arena.library import Cell, read_library
from mpgen.errors import UserError

from .conftest import METHODS, PROMPTS, write_video


def test_a_folder_of_methods_is_every_two_methods_on_every_prompt(library):
    assert library.methods == list(METHODS)
    assert library.prompts == list(PROMPTS)
    assert len(library.cells()) == 3 * 4
    assert Cell("old-cat", "method-a", "method-c") in library.cells()
    assert not list(library.warnings())


def test_a_csv_names_videos_anywhere(tmp_path, video_folder):
    rows = [f"{m},{p},{video_folder / m / p}.mp4" for m in METHODS[:2] for p in PROMPTS[:2]]
    table = tmp_path / "study.csv"
    table.write_text("\n".join(["method,prompt,video", *rows]))
    assert read_library(table).cells() == [Cell(prompt, *METHODS[:2]) for prompt in PROMPTS[:2]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method,prompt,video\na,cat,\n", "row 2: has no `video`"),
        ("method,name,video\na,cat,a.mp4\n", "row 2: has no `prompt`"),
        ("method,prompt,video\na,cat,a.mp4\na,cat,b.mp4\n", "row 3: a second video of a for cat"),
        ("method,prompt,video\na,cat,a.mp4\n", "1 of 1 videos cannot be shown: .*a.mp4: no such file"),
    ],
)
def test_a_bad_csv_is_one_clear_line(tmp_path, text, said):
    table = tmp_path / "study.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=said):
        read_library(table)


def test_too_little_to_compare_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_library(tmp_path / "nothing")
    (tmp_path / "v").mkdir()
    with pytest.raises(UserError, match="wanted two methods or more"):
        read_library(tmp_path / "v")
    write_video(tmp_path / "v" / "a" / "cat.mp4")
    write_video(tmp_path / "v" / "b" / "dog.mp4")
    with pytest.raises(UserError, match="no two methods have a video of the same name"):
        read_library(tmp_path / "v")


def test_a_broken_video_is_said_and_the_rest_is_compared(tmp_path):
    for method in ("a", "b"):
        write_video(tmp_path / method / "cat.mp4")
        (tmp_path / method / "dog.mp4").write_bytes(b"no video at all")
        (tmp_path / method / ".half.tmp.mp4").write_bytes(b"")
        (tmp_path / method / "notes.txt").write_text("other files do not matter")
    library = read_library(tmp_path)
    assert [cell.prompt for cell in library.cells()] == ["cat"]
    assert len(library.rejected) == 2
    assert all("dog.mp4: cannot be opened as a video" in line for line in library.rejected)


def test_what_would_give_a_method_away_is_said(tmp_path):
    write_video(tmp_path / "a" / "cat.mp4")
    write_video(tmp_path / "b" / "cat.mp4", frames=9, fps=12, width_px=96)
    write_video(tmp_path / "a" / "dog.mp4")
    said = "\n".join(read_library(tmp_path).warnings())
    assert "cat: sizes differ (64x48, 96x48)" in said
    assert "cat: frame rates differ (12, 8)" in said
    assert "dog: no video of b" in said
