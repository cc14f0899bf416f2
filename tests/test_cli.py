import errno
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mpgen import cli

HEAVY = ("torch", "lightning", "numpy", "jsonargparse")


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit status, output and errors of `mpgen ARGV`."""
    monkeypatch.setattr(sys, "argv", ["mpgen", *argv])
    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = end.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The errors of a call that must end with status 2, two lines at most and nothing else."""
    status, out, err = run(monkeypatch, capsys, *argv)
    assert status == 2
    assert out == ""
    assert err.startswith("mpgen: error: ")
    assert 1 <= err.count("\n") <= 2, err
    assert "Traceback" not in err
    return err


def test_classes_of_the_working_folder_are_found_last(monkeypatch, capsys):
    elsewhere = [folder for folder in sys.path if folder]
    monkeypatch.setattr(sys, "path", [*elsewhere])
    fails(monkeypatch, capsys, "xyzzy")
    assert sys.path == [*elsewhere, ""]


@pytest.mark.parametrize("argv", [["--help"], ["-h"], [], ["--version"], ["data", "--help"]])
def test_help_imports_nothing_heavy(argv):
    script = f"import sys; from mpgen.cli import main; main(); print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_python_m_mpgen_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "mpgen", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mpgen ")


def test_help_names_every_command(monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, "--help")
    assert status == 0
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)


def test_version_is_that_of_the_package(monkeypatch, capsys):
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert run(monkeypatch, capsys, "--version")[1] == f"mpgen {project['version']}\n"


def test_a_misspelt_command_is_told_the_nearest(monkeypatch, capsys):
    assert "did you mean 'generate'?" in fails(monkeypatch, capsys, "gnerate")


def test_an_unknown_command_is_told_all(monkeypatch, capsys):
    err = fails(monkeypatch, capsys, "xyzzy")
    assert all(name in err for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "w/a.mp4"), "w/a.mp4: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "w"), "w: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "a/b: Not a directory"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "aaa"), "aaa: File name too long"),
    ],
)
def test_what_the_file_system_refuses_is_one_line(monkeypatch, capsys, refused, said):
    def refuse(*_: object) -> None:
        raise refused

    monkeypatch.setattr(cli.Command, "run", refuse)
    assert run(monkeypatch, capsys, "world") == (2, "", f"mpgen: error: {said}\n")


def test_an_error_of_ours_keeps_its_traceback(monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(cli.Command, "run", fail)
    with pytest.raises(OSError, match="Bad file descriptor"):
        run(monkeypatch, capsys, "world")


def test_ctrl_c_ends_with_status_130(monkeypatch, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Command, "run", interrupt)
    assert run(monkeypatch, capsys, "world") == (130, "", "mpgen: interrupted\n")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, cli.SPIN_COUNT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_wait_briefly_unless_told_otherwise(monkeypatch, capsys, given, wanted):
    monkeypatch.setattr(cli.os, "environ", dict(given))
    monkeypatch.setattr(cli.Command, "run", lambda *_: None)
    run(monkeypatch, capsys, "world")
    assert cli.os.environ.get("GOMP_SPINCOUNT") == wanted


def test_a_scheduler_that_says_stop_is_told_so_and_the_handler_is_put_back(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli.Command, "run", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert run(monkeypatch, capsys, "world") == (143, "", "mpgen: terminated\n")
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["world", "--outptu", "w"], ["--outptu", "'output'"]),
        (["world"], ["arguments are required: output"]),
        (["world", "--output"], ["--output", "expected one argument"]),
        (["world", "--output", "w", "--fps", "fast"], ["--fps", "fast", "a whole number"]),
        (["world", "--output", "w", "--families", "3"], ["--families", "3"]),
        (["world", "--output", "w", "--size_px", "33"], ["size_px 33", "multiple of 16"]),
        (["world", "--config", "nope.yaml"], ["nope.yaml does not exist"]),
        (["evaluate", "--videos", "v"], ["--output missing", "--videos"]),
        (["evaluate", "--world", "w", "--videos", "v", "--output", "o", "stray"], ["stray"]),
        (["evaluate", "--world", "w", "--videos", "v", "--output", "o"], ["w: has no folder `truth`"]),
        (["generate", "--ckpt", "c"], ["--ckpt ", "'ckpt_path'"]),
        (["generate", "--ckpt_path", "c", "--output", "o.mp4", "--scene", "bounc"], ["--scene bounc", "bounce"]),
        (
            ["generate", "--ckpt_path", "c", "--output", "o.mp4", "--prompt", "3", "--seconds", "x"],
            ["--seconds", "a number", "x"],
        ),
        (["generate", "--ckpt_path", "c", "--output", "o.mp4", "--scene", "bounce"], ["c does not exist"]),
    ],
)
def test_a_wrong_option_is_named_with_what_was_wanted(monkeypatch, capsys, tmp_path, argv, wanted):
    monkeypatch.chdir(tmp_path)
    err = fails(monkeypatch, capsys, *argv)
    assert all(word in err for word in wanted), err
    assert list(tmp_path.iterdir()) == []


def test_options_may_come_from_a_config(monkeypatch, capsys, tmp_path):
    config = tmp_path / "world.yaml"
    config.write_text(f"output: {tmp_path}/w\nsize_pixels: 32\n")
    err = fails(monkeypatch, capsys, "world", "--config", str(config))
    said = f"{config}: size_pixels: Option 'size_pixels' is not accepted; did you mean 'size_px'?"
    assert err == f"mpgen: error: {said}\n"


def test_the_help_of_a_command_shows_its_signature(monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, "world", "--help")
    assert status == 0
    assert "Render a world" in out
    assert "--train_videos" in out
    assert "Args:" not in out
