"""`mpgen data cache`, `check` and `plan` on a small folder, as a user calls them."""

from inspect import signature
from pathlib import Path

import pytest
import yaml

from mpgen.data.cache import CacheDirectory
from mpgen.data.commands.cache import cache
from mpgen.data.commands.check import check
from mpgen.data.commands.plan import plan
from mpgen.data.commands.remove import remove
from mpgen.data.datamodule import VideoDataModule
from mpgen.data.sizes import keep_sizes, read_sizes
from mpgen.encoders.open_clip import OpenClipEncoders
from mpgen.encoders.tiny import TinyEncoders
from mpgen.errors import UserError
from mpgen.parser import run_function

SIZES = ["--height_px", "16", "--width_px", "24", "--section_latent_frames", "2", "--max_sections", "3"]


@pytest.fixture
def data(tmp_path, make_video) -> Path:
    """A folder of three videos for training and one to validate; a fifth row has no file."""
    rows = ["video,caption,split"]
    for number, num_frames in enumerate((9, 17, 25, 9)):
        make_video(tmp_path / f"{number}.mp4", num_frames)
        rows.append(f"{number}.mp4,a red disc,{'val' if number == 3 else 'train'}")
    (tmp_path / "manifest.csv").write_text("\n".join([*rows, "none.mp4,,train"]))
    return tmp_path


def said(capsys, function, data, *options) -> str:
    run_function(function, [str(data), *options], "mpgen data")
    return capsys.readouterr().out


def test_from_manifest_to_plan(data, capsys):
    made = said(capsys, cache, data, "--encoders", "tiny", *SIZES)
    assert "4 videos, 7 sections" in made
    assert "encoded now: 4" in made
    assert "rejected: 1" in made
    assert "encoded now: 0" in said(capsys, cache, data, *SIZES)
    checked = said(capsys, check, data)
    assert "good: 4 of 5 videos, 7 sections" in checked
    assert "nothing is wrong" in checked
    planned = said(capsys, plan, data, "--world_size", "2")
    assert "there are: 3 videos, 6 sections" in planned
    assert "planned: 1 steps of 2 videos, 4 sections" in planned
    assert "shortened: 1 (50.00% of those planned); not used: 1" in planned
    staged = said(capsys, plan, data, "--curriculum", "Staged", "--curriculum.stages", "[[1,5],[3,4]]")
    assert "planned: 9 steps of 1 videos" in staged


def test_training_reads_what_the_command_made(data, capsys):
    said(capsys, cache, data, "--dtype", "bfloat16", *SIZES)
    keys = yaml.safe_load((data / "training.yaml").read_text())["data"]
    assert keys.pop("encoders") == {"class_path": "mpgen.encoders.tiny.TinyEncoders", "init_args": {}}
    paths = {name: Path(keys.pop(name)) for name in ("manifest", "cache")}
    module = VideoDataModule(encoders=TinyEncoders(), section_latent_frames=2, **paths, **keys)
    module.prepare_data()
    assert (module.index.reused, module.index.encoded) == (4, 0)


def test_parts_make_the_whole(data, capsys):
    for part in ("1/2", "2/2"):
        with pytest.raises(UserError, match=r"not all parts|holds no cache"):
            said(capsys, plan, data)
        assert f"of part {part}" in said(capsys, cache, data, "--part", part, *SIZES)
    assert "there are: 3 videos" in said(capsys, plan, data)
    assert "good: 4 of 5 videos" in said(capsys, check, data)


def test_a_bad_cache_is_exit_status_1_and_a_list(data, capsys):
    said(capsys, cache, data, *SIZES)
    damaged = next((data / "cache").rglob("videos/*/*.safetensors"))
    damaged.write_bytes(b"half")
    with pytest.raises(SystemExit) as ended:
        said(capsys, check, data)
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "damaged: 1; run `mpgen data cache` again" in out
    (report,) = (data / "cache").glob("*/check.csv")
    assert str(damaged) in report.read_text()
    assert "encoded now: 1 (1 for the second time" in said(capsys, cache, data, *SIZES)
    assert "nothing is wrong" in said(capsys, check, data)


def test_of_several_caches_one_is_named(data, capsys):
    said(capsys, cache, data, *SIZES)
    assert "max_sections 3 -> 2" in said(capsys, cache, data, *SIZES[:-1], "2")
    with pytest.raises(UserError, match="holds 2 caches, wanted one of them as --fingerprint"):
        said(capsys, plan, data)
    fingerprint = sorted((data / "cache").iterdir())[0].name
    assert fingerprint in said(capsys, plan, data, "--fingerprint", fingerprint[:6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoders", "hunyuan"], "wanted --weights"),
        (["--encoders", "hunyuan", "--weights", "nowhere"], "nowhere/vae/config.json is missing"),
        (["--encoders", "tiny", "--weights", "x"], "have their own"),
        (["--encoders", "tinny"], "encoders"),
        (["--part", "3/2"], "part 3/2"),
        (["--height_px", "20"], "multiples of 8"),
        (["--max_sections", "0"], "at least 1"),
        (["--num_workers", "0"], "wanted 1 to"),
    ],
)
def test_a_mistake_is_one_clear_error(data, capsys, options, message):
    with pytest.raises(UserError, match=message):
        said(capsys, cache, data, *options)


def test_encoders_can_be_named_by_class_with_arguments():
    made = []

    def choose(encoders: signature(cache).parameters["encoders"].annotation = "tiny") -> None:
        """As `cache` does."""
        made.append(encoders)

    run_function(choose, ["--encoders", "hunyuan"], "choose")
    run_function(choose, ["--encoders", "OpenClipEncoders", "--encoders.seed", "3"], "choose")
    assert made[0] == "hunyuan"
    assert (type(made[1]), made[1].seed) == (OpenClipEncoders, 3)


def test_a_folder_without_a_cache_says_how_to_make_one(data, capsys):
    for verb in (plan, check):
        with pytest.raises(UserError, match="holds no cache yet; `mpgen data cache` makes one"):
            said(capsys, verb, data)


def test_sizes_that_filter_was_given_hold_in_cache_unless_others_are(data, capsys):
    keep_sizes(data, {"height_px": 16, "width_px": 24, "section_latent_frames": 2})
    made = said(capsys, cache, data, "--max_sections", "3")
    assert "24x16, 24 fps, sections of 2 latent frames" in made
    assert "as mpgen data filter was told: height_px 16, width_px 24, section_latent_frames 2" in made
    keys = yaml.safe_load((data / "training.yaml").read_text())["data"]
    assert (keys["height_px"], keys["width_px"]) == (16, 24)
    assert "32x16, 24 fps" in said(capsys, cache, data, "--max_sections", "3", "--width_px", "32")
    keep_sizes(data, {})
    assert read_sizes(data) == {}
    (data / "sizes.yaml").write_text("height_px: tall")
    with pytest.raises(UserError, match=r"sizes\.yaml: wanted whole numbers"):
        read_sizes(data)


def test_a_cache_is_removed_by_the_beginning_of_its_name(data, capsys):
    for width in ("24", "32"):
        said(capsys, cache, data, *SIZES, "--width_px", width)
    kept, gone = CacheDirectory.all_in(data / "cache")
    with pytest.raises(UserError, match="holds 2 caches, wanted one of them"):
        said(capsys, remove, data, "nothing")
    told = said(capsys, remove, data, gone.fingerprint[:9])
    assert f"removed {gone.path} (" in told
    assert [one.fingerprint for one in CacheDirectory.all_in(data / "cache")] == [kept.fingerprint]
    assert (data / "0.mp4").exists()
