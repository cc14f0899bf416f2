"""A folder of anybody's videos, a manifest, and the built-in world."""

import json
import os

import pytest

from mpgen.data.curate.commands.index import index
from mpgen.data.curate.sources.base import FoundClip
from mpgen.data.curate.sources.folder import Folder, World
from mpgen.data.records import Reject
from mpgen.errors import UserError


def clips(source, csv, root):
    return [row.clip for row in source.read("own", csv, root) if isinstance(row, FoundClip)]


def test_every_video_below_the_folder_is_a_clip_in_order(touch):
    root = touch("b.mp4", "a/c.MKV", "notes.txt", "picture.png")
    found = clips(Folder(), None, root)
    assert [(clip.clip_id, clip.row, clip.captions) for clip in found] == [("a/c.MKV", 1, {}), ("b.mp4", 2, {})]
    assert found[1].path == str(root / "b.mp4")


def test_a_text_beside_a_video_is_its_caption_if_it_is_unicode(touch):
    root = touch("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    (root / "d.txt").write_bytes(b"a cat sits\0 there")  # NUL is in no text
    (root / "a.txt").write_bytes("\ufeffa café\r\n".encode())
    (root / "b.txt").write_bytes("a café".encode("utf-16"))
    (root / "c.txt").write_bytes("a café".encode("cp1252"))  # or another encoding: nobody can tell
    assert [clip.captions for clip in clips(Folder(), None, root)] == [{"dense": "a café"}] * 2


@pytest.mark.parametrize(
    ("record", "captions"),
    [
        ({"caption": " a cat "}, {"dense": "a cat"}),
        ({"short_caption": "cat", "dense": "a grey cat", "fps": 24}, {"short": "cat", "dense": "a grey cat"}),
    ],
)
def test_an_object_beside_a_video_holds_captions_by_field(touch, record, captions):
    root = touch("a.mp4", "a.txt")
    (root / "a.json").write_text(json.dumps(record))
    assert clips(Folder(), None, root)[0].captions == captions


@pytest.mark.parametrize("text", ["{", "[1]", '{"caption": 3}', "{}", "\x00"])
def test_captions_that_cannot_be_read_cost_that_video_alone(touch, text):
    root = touch("a.mp4", "b.mp4")
    (root / "a.json").write_text(text)
    bad, good = Folder().read("own", None, root)
    assert (bad.row, bad.video, bad.reason) == (1, "a.mp4", "bad_caption")
    assert "a.json" in bad.detail
    assert good.clip.clip_id == "b.mp4"


def test_a_csv_is_a_manifest_relative_to_the_folder_or_to_itself(touch, tmp_path):
    root = touch("a.mp4")
    inside, outside = root / "m.csv", tmp_path / "m.csv"
    for csv in (inside, outside):
        csv.write_text("video,caption,start_seconds,end_seconds\na.mp4,x,1,3.5\nnone.mp4,y,,\na.mp4,,,\n")
    assert clips(Folder(), inside, None) == clips(Folder(), outside, root)
    first, second = clips(Folder(), inside, None)
    assert (first.start_seconds, first.end_seconds, first.captions) == (1.0, 3.5, {"dense": "x"})
    assert (second.start_seconds, second.end_seconds, second.captions) == (0.0, None, {})
    assert first.uid != second.uid
    assert first.video_id == second.video_id


def test_the_world_is_its_own_manifest(touch):
    root = touch("videos/train_00000_bounce.mp4")
    (root / "manifest.csv").write_text(
        "video,caption,split,family\nvideos/train_00000_bounce.mp4,a disc,train,bounce\n"
    )
    (clip,) = clips(World(), World().table(None, root), root)
    assert (clip.clip_id, clip.captions) == ("videos/train_00000_bounce.mp4", {"dense": "a disc"})


def test_nothing_given_is_told():
    with pytest.raises(UserError, match="--root is missing"):
        list(Folder().read("own", None, None))
    with pytest.raises(UserError, match="--root is missing"):
        list(World().read("own", World().table(None, None), None))


def test_a_name_or_caption_that_is_no_unicode_costs_its_own_row(tmp_path):
    root = tmp_path / "videos"
    root.mkdir()
    for name in ("good", "half", "gbk", "wide"):
        (root / f"{name}.mp4").touch()
    with open(os.fsencode(root) + b"/caf\xe9.mp4", "wb"):
        pass
    (root / "half.json").write_text('{"caption": "a \\ud83d cat"}')
    (root / "gbk.txt").write_bytes("一只猫走过花园".encode("gbk"))
    (root / "wide.txt").write_text("一只猫", encoding="utf-16")
    rows = list(Folder().read("mine", None, root))
    found = {row.clip.clip_id: row.clip.captions for row in rows if isinstance(row, FoundClip)}
    assert found == {"good.mp4": {}, "wide.mp4": {"dense": "一只猫"}}
    reasons = {row.reason for row in rows if isinstance(row, Reject)}
    assert reasons == {"bad_caption", "bad_name"}
    output = tmp_path / "data"
    index("folder", output, root=root)
    assert sum("bad_" in line for line in (output / "index_rejects.csv").read_text().splitlines()) == 3
