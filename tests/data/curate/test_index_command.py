"""`mpgen data index`, as it is typed."""

import csv
import sys
from pathlib import Path

import pytest

from mpgen import cli
from mpgen.cli import COMMANDS
from mpgen.data.curate.sources.clip import read_clips

SEKAI = "videoFile,cameraFile,caption\n"


def clip_name(number: int, frames: int = 300) -> str:
    return f"id_{number}-x_{0:07d}_{frames:07d}"


@pytest.fixture
def mpgen(monkeypatch, capsys):
    """Runs `mpgen ARGV`: exit status, output and errors."""

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mpgen", *map(str, argv)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def sekai(tmp_path) -> tuple[Path, Path]:
    """A table of ten rows and a folder: seven videos, one of them short; one row twice, one missing, one unreadable."""
    videos = tmp_path / "videos"
    videos.mkdir()
    names = [clip_name(number) for number in range(6)] + [clip_name(6, frames=30)]
    for name in names:
        (videos / f"{name}.mp4").touch()
    (videos / f"{names[0]}.npz").touch()
    lines = [f"{name}.mp4,{name}.npz,a walk" for name in [*names, names[0], clip_name(9)]]
    table = tmp_path / "sekai.csv"
    table.write_text(SEKAI + "\n".join([*lines, "walk.mp4,,x"]) + "\n")
    return table, videos


def counts(out: str) -> dict[str, str]:
    """What the command says it counted, by name."""
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    return {" ".join(line[:-1]): line[-1] for line in lines}


def rejects(data: Path) -> list[list[str]]:
    with (data / "index_rejects.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_it_counts_what_it_found_and_why_not(mpgen, sekai, tmp_path):
    table, videos = sekai
    data = tmp_path / "data"
    status, out, err = mpgen("data", "index", "--source", "sekai", "--csv", table, "--root", videos, "--output", data)
    assert (status, err) == (0, "")
    wanted = {"found": "6", "hours": "0.02", "with a camera path": "1"}
    wanted |= {"missing": "1", "duplicate": "1", "too short": "1", "bad id": "1"}
    assert wanted.items() <= counts(out).items()
    assert "index.jsonl: 6 clips of 1 source\n" in out
    assert out.endswith(f"next:\n  mpgen data score {data}\n")
    assert len(read_clips(data / "index.jsonl")) == 6
    assert rejects(data)[0] == ["source", "row", "video", "reason", "detail"]
    assert [(line[1], line[3]) for line in rejects(data)[1:]] == [
        ("8", "too_short"),
        ("9", "duplicate"),
        ("10", "missing"),
        ("11", "bad_id"),
    ]


def test_the_same_input_gives_the_same_bytes(mpgen, sekai, tmp_path):
    table, videos = sekai
    data = tmp_path / "data"
    made = []
    for _ in range(2):
        mpgen("data", "index", "--source", "sekai", "--csv", table, "--root", videos, "--output", data)
        made.append([(data / name).read_bytes() for name in ("index.jsonl", "index_rejects.csv")])
    assert made[0] == made[1]


def test_another_source_is_added_and_the_same_one_replaced_in_whatever_order(mpgen, sekai, tmp_path):
    table, videos = sekai
    own = tmp_path / "own"
    own.mkdir()
    (own / "cat.mp4").touch()
    data = tmp_path / "data"
    arguments = {
        "sekai": ["--source", "sekai", "--csv", table, "--root", videos, "--output", data],
        "own": ["--source", "folder", "--root", own, "--output", data, "--name", "zoo"],
    }
    made = []
    for order in (["sekai", "own"], ["own", "sekai"], ["sekai"]):
        for name in order:
            assert mpgen("data", "index", *arguments[name])[0] == 0
        made.append([(data / name).read_bytes() for name in ("index.jsonl", "index_rejects.csv")])
    assert made[0] == made[1] == made[2]
    assert [clip.source for clip in read_clips(data / "index.jsonl")] == ["sekai"] * 6 + ["zoo"]


def test_hours_are_those_of_clips_whose_length_the_table_tells(mpgen, tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "m.csv").write_text("video,start_seconds,end_seconds\na.mp4,0,36\na.mp4,36,\n")
    arguments = ["--source", "folder", "--root", tmp_path, "--output", tmp_path / "d"]
    told = counts(mpgen("data", "index", *arguments, "--csv", tmp_path / "m.csv")[1])
    assert (told["found"], told["of unknown length"], told["hours of the others"]) == ("2", "1", "0.01")
    out = mpgen("data", "index", *arguments)[1]
    assert "folder: 1 row\n" in out
    assert "index.jsonl: 1 clip of 1 source\n" in out
    assert counts(out)["of unknown length"] == "1"
    assert not [name for name in counts(out) if name.startswith("hours")]


def test_a_clip_of_two_collections_is_used_once(mpgen, sekai, tmp_path):
    """Sekai's HQ split is a part of its Real-Walking split."""
    table, videos = sekai
    data = tmp_path / "data"
    mpgen("data", "index", "--source", "sekai", "--csv", table, "--root", videos, "--output", data)
    hq = tmp_path / "hq.csv"
    (videos / f"{clip_name(20)}.mp4").touch()
    hq.write_text(SEKAI + f"{clip_name(2)}.mp4,,x\n{clip_name(20)}.mp4,,x\n")
    options = ["--source", "sekai", "--name", "sekai_hq", "--csv", hq, "--root", videos, "--output", data]
    assert counts(mpgen("data", "index", *options)[1])["found"] == "1"
    assert [line[4] for line in rejects(data) if line[0] == "sekai_hq"] == [
        f"the same part of {videos}/{clip_name(2)}.mp4 as row 4 of sekai"
    ]


def test_paths_inside_the_folder_are_relative_to_it(mpgen, tmp_path):
    data = tmp_path / "data"
    (data / "videos").mkdir(parents=True)
    (data / "videos" / "a.mp4").touch()
    mpgen("data", "index", "--source", "folder", "--root", data / "videos", "--output", data)
    assert read_clips(data / "index.jsonl")[0].path == "videos/a.mp4"


def test_a_wrong_root_is_told_before_anything_is_written(mpgen, sekai, tmp_path):
    table, _ = sekai
    (tmp_path / "empty").mkdir()
    arguments = ["--source", "sekai", "--csv", table, "--root", tmp_path / "empty", "--output", tmp_path / "data"]
    status, out, err = mpgen("data", "index", *arguments)
    assert (status, out) == (2, "")
    assert "the videos of 8 of 9 rows are not below" in err
    assert "row 2: no video is named id_0-x_0000000_0000300 or id_0-x" in err
    assert err.endswith("to go on with the others: --max_missing 1\n")
    assert not (tmp_path / "data").exists()
    assert (
        "none of 10 rows can be used (8 missing, 1 bad_id, 1 duplicate)"
        in mpgen("data", "index", *arguments, "--max_missing", "1")[2]
    )


def test_a_table_in_another_encoding_is_read_and_told(mpgen, tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "m.csv").write_bytes("video,caption\na.mp4,caf\xe9 \x81\n".encode("latin-1"))
    out = mpgen("data", "index", "--source", "folder", "--csv", tmp_path / "m.csv", "--output", tmp_path / "d")[1]
    assert "m.csv is not UTF-8; it was read as cp1252" in out
    assert {"with unreadable letters": "1", "of unknown length": "1"}.items() <= counts(out).items()


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["--source", "mira"], ["--source", "Got value: mira", "mira_v0"]),
        (["--source", "sekai"], ["required: output"]),
        (["--source", "sekai", "--output", "d"], ["--csv is missing"]),
        (["--source", "sekai", "--output", "d", "--csv", "m.csv"], ["--root is missing"]),
        (["--source", "sekai", "--output", "d", "--csv", "none.csv", "--root", "."], ["none.csv: no such file"]),
        (["--source", "sekai", "--output", "d", "--csv", "m.csv", "--root", "."], ["has no column videoFile"]),
        (["--source", "folder", "--output", "d", "--root", "none"], ["none: no such folder"]),
        (["--source", "folder", "--output", "d", "--root", "empty"], ["empty: has no rows"]),
        (["--source", "world", "--output", "d", "--root", "empty"], ["no such manifest"]),
        (["--source", "folder", "--output", "d", "--root", ".", "--name", "a b"], ["--name", "'a b'"]),
        (["--source", "folder", "--output", "d", "--root", ".", "--max_missing", "50"], ["--max_missing", "0 to 1"]),
        (["--source", "folder", "--output", ".", "--csv", "manifest.csv"], ["manifest.csv", "choose another folder"]),
        (["--source", "folder", "--output", "d", "stray"], ["stray"]),
    ],
)
def test_a_wrong_option_is_one_error_and_leaves_nothing(mpgen, monkeypatch, tmp_path, argv, wanted):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.csv").write_text("video\na.mp4\n")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = mpgen("data", "index", *argv)
    assert (status, out) == (2, "")
    assert err.startswith("mpgen: error: ")
    assert err.count("\n") <= 2
    assert all(word in err for word in wanted), err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_help_of_data_names_every_verb_and_that_of_index_an_example(mpgen):
    status, out, _ = mpgen("data", "--help")
    assert status == 0
    assert all(f"\n  {name} " in out for name in COMMANDS["data"].verbs)
    assert "\n  mpgen data index --source mira_v0 --csv miradata_v0.csv --root" in mpgen("data", "index", "--help")[1]


def test_a_misspelt_verb_is_told_the_nearest(mpgen):
    assert mpgen("data", "idnex") == (
        2,
        "",
        "mpgen: error: 'idnex' is not a command of `mpgen data`: did you mean 'index'?\n",
    )
    assert all(name in mpgen("data", "xyzzy")[2] for name in COMMANDS["data"].verbs)
