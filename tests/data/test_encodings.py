"""Laws of encodings: Unicode is read, western text is reported, anything else is refused rather than guessed."""

import pytest

from mpgen.data.encodings import find_encoding, find_unicode
from mpgen.data.table import read_cells
from mpgen.errors import UserError

WESTERN = "Ein Café in Zürich, ça va; “très” déjà vu, naïve façade"
CHINESE = "一只猫走过花园然后跳上桌子"
JAPANESE = "猫が庭を歩いてテーブルに飛び乗る"


@pytest.mark.parametrize("text", ["a cat walks", WESTERN, CHINESE])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_whatever_its_form(tmp_path, text, encoding):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert (tmp_path / "a.txt").read_text(encoding=find_unicode(tmp_path / "a.txt")) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_known_by_its_zeros(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(WESTERN.encode(encoding))
    assert find_encoding(tmp_path / "a.txt") == encoding


def test_western_windows_is_told_from_others(tmp_path):
    (tmp_path / "a.txt").write_bytes(WESTERN.encode("cp1252"))
    assert find_encoding(tmp_path / "a.txt") == "cp1252"
    assert find_unicode(tmp_path / "a.txt") is None


@pytest.mark.parametrize(("text", "encoding"), [(CHINESE, "gbk"), (JAPANESE, "shift-jis")])
def test_other_encodings_are_unknown_and_a_table_in_them_is_refused(tmp_path, text, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes(f"video,caption\na.mp4,{text}\n".encode(encoding, "ignore"))
    assert find_encoding(path) is None
    with pytest.raises(UserError, match="is in an unknown encoding; save it as UTF-8"):
        list(read_cells(path))
