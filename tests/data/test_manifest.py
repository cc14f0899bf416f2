"""Laws of reading a manifest: a bad row costs that row only."""

import csv

import pytest

from mpgen.data.manifest import read_manifest
from mpgen.data.records import Reject, count_reasons, write_rejects
from mpgen.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "b.mp4", "c d.mp4", "été.mp4"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def read(folder, content: str | bytes, split: str | None = None):
    path = folder / "manifest.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_manifest(path, split)


def only_reject(manifest) -> tuple[int, str, str]:
    assert len(manifest.rejects) == 1
    return manifest.rejects[0].row, manifest.rejects[0].video, manifest.rejects[0].reason


def test_columns_may_come_in_any_order_and_others_are_ignored(folder):
    manifest = read(folder, "end_seconds,family,video,split,caption,start_seconds\n4,x,a.mp4,val,hello,1.5\n")
    record = manifest.records[0]
    assert (record.path, record.caption, record.split, record.row) == (folder / "a.mp4", "hello", "val", 2)
    assert (record.start_seconds, record.end_seconds) == (1.5, 4.0)


def test_a_video_with_a_clip_id_keeps_its_name_when_its_file_moves(folder):
    (folder / "moved").mkdir()
    (folder / "moved" / "a.mp4").write_bytes(b"")
    table = "video,source,clip_id,start_seconds,end_seconds\n{},{},{},1,4\n"
    here = read(folder, table.format("a.mp4", "mira_v0", "12.10")).records[0]
    there = read(folder, table.format("moved/a.mp4", "mira_v0", "12.10")).records[0]
    assert here.uid == there.uid
    assert here.path != there.path
    assert here.source == "mira_v0"
    for other in (("mira_v1", "12.10"), ("mira_v0", "12.1")):
        assert read(folder, table.format("a.mp4", *other)).records[0].uid != here.uid


def test_only_the_video_is_required(folder):
    record = read(folder, "video\na.mp4\n").records[0]
    assert (record.caption, record.split, record.start_seconds, record.end_seconds) == ("", "train", 0.0, None)


def test_quotes_commas_newlines_and_unicode_survive(folder):
    manifest = read(folder, 'video,caption\n"c d.mp4","a ""red"" disc, and\nmore 円"\nété.mp4,ok\n')
    assert [record.caption for record in manifest.records] == ['a "red" disc, and\nmore 円', "ok"]
    assert manifest.records[1].path.name == "été.mp4"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_the_encodings_of_spreadsheets_are_read(folder, encoding):
    assert read(folder, "video,caption\r\na.mp4,café\r\n\r\n".encode(encoding)).records[0].caption == "café"


def test_blank_rows_are_skipped_but_counted_in_row_numbers(folder):
    assert [r.row for r in read(folder, "video,caption\n\na.mp4,x\n,\n\nb.mp4,y\n").records] == [3, 6]


def test_a_very_long_caption_is_read(folder):
    assert len(read(folder, f"video,caption\na.mp4,{'x' * 200_000}\n").records[0].caption) == 200_000


def test_one_split_is_read_on_request(folder):
    content = "video,split\na.mp4,train\nb.mp4,val\n"
    assert [record.path.name for record in read(folder, content, "val").records] == ["b.mp4"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("none.mp4,x,,", "missing"),
        ("x" * 5000 + ",x,,", "missing"),
        ("a.mp4,x,soon,", "bad_number"),
        ("a.mp4,x,-1,", "bad_number"),
        ("a.mp4,x,nan,", "bad_number"),
        ("a.mp4,x,,inf", "bad_number"),
        ('a.mp4,x,"1,5",', "bad_number"),
        ("a.mp4,x,5,3", "bad_span"),
        ("a.mp4,x,5,5", "bad_span"),
        (",x,,", "no_video"),
        ("a.mp4,x, y,1,2", "wrong_columns"),
        ("a.mp4,x", "wrong_columns"),
    ],
)
def test_a_bad_row_is_listed_and_the_others_are_kept(folder, row, reason):
    manifest = read(folder, f"video,caption,start_seconds,end_seconds\nb.mp4,first,0,1\n{row}\n")
    assert [record.caption for record in manifest.records] == ["first"]
    assert only_reject(manifest) == (3, row.split(",")[0], reason)


def test_a_span_that_ends_before_it_starts_says_both(folder):
    detail = read(folder, "video,start_seconds,end_seconds\na.mp4,5,3\nb.mp4,,\n").rejects[0].detail
    assert detail == "end 3.0 s is not after start 5.0 s"


def test_the_same_span_twice_is_used_once_even_across_splits(folder):
    manifest = read(folder, "video,split\na.mp4,train\n./a.mp4,val\n")
    assert len(manifest.records) == 1
    assert only_reject(manifest) == (3, "./a.mp4", "duplicate")


def test_two_spans_of_a_video_are_two_videos_and_names_do_not_depend_on_the_place(folder):
    content = "video,start_seconds,end_seconds\na.mp4,0,1\na.mp4,1,2\n"
    uids = [record.uid for record in read(folder, content).records]
    assert len(set(uids)) == 2
    elsewhere = folder / "sub" / folder.name
    elsewhere.mkdir(parents=True)
    (elsewhere / "a.mp4").write_bytes(b"")
    assert [record.uid for record in read(elsewhere, content).records] == uids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,caption\na.mp4,x\n", r"has the columns \['path', 'caption'\], wanted `video`"),
        ("", r"has the columns \[\], wanted `video`"),
        ("video,caption,caption\na.mp4,x,y\n", "`caption` more than once"),
        ("video,caption\n\n", "no rows below its header"),
    ],
)
def test_a_table_without_a_use_is_one_clear_error(folder, content, message):
    with pytest.raises(UserError, match=message):
        read(folder, content)


def test_a_missing_manifest_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv")


def test_the_rejects_file_is_sorted_and_the_same_every_time(tmp_path):
    rejects = [
        Reject(9, 'b "x".mp4', "missing", "a, b"),
        Reject(2, "é.mp4", "too_short", ""),
        Reject(3, "c", "missing", ""),
    ]
    write_rejects(tmp_path / "1.csv", rejects)
    write_rejects(tmp_path / "2.csv", rejects[::-1])
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    with (tmp_path / "1.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["row", "video", "reason", "detail"]
    assert [row[0] for row in rows[1:]] == ["2", "3", "9"]
    assert rows[3][1] == 'b "x".mp4'
    assert count_reasons(rejects) == "2 missing, 1 too_short"
