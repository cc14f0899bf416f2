import importlib.util
import socket
import subprocess
import sys

import pytest

from mpgen import cli
from mpgen.arena.command import serve
from mpgen.errors import UserError


def fails(monkeypatch, capsys, *argv: str) -> str:
    """What `mpgen ARGV` complains of; status 2."""
    monkeypatch.setattr(sys, "argv", ["mpgen", *argv])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    return capsys.readouterr().err


def test_help_of_the_verbs_imports_nothing_heavy():
    script = "import sys; from mpgen.cli import main; main(); print([m for m in ('numpy', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script, "arena"], capture_output=True, text=True, check=True)
    assert "  serve " in done.stdout
    assert "  report " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["serv"], "'serv' is not a command of `mpgen arena`: did you mean 'serve'?"),
        (["serve"], "required: videos"),
        (["serve", "--videos", "nowhere"], "nowhere does not exist, wanted a folder of METHOD/NAME.mp4 or a CSV"),
        (["serve", "--videos", "v", "--questions", '["taste"]'], "'taste' is not a question, wanted some of overall"),
        (["serve", "--videos", "v", "--questions", '["motion", "motion"]'], "each once"),
        (["serve", "--videos", "v", "--pairs_per_rater", "0"], "wanted at least 1"),
        (["serve", "--videos", "v", "--host", "0.0.0.0", "--token", "short"], "--token: has 5 letters"),
        (["report", "--votes", "none.sqlite", "--output", "o"], "none.sqlite does not exist"),
    ],
)
def test_a_mistake_is_one_line(monkeypatch, capsys, tmp_path, argv, said):
    monkeypatch.chdir(tmp_path)
    err = fails(monkeypatch, capsys, "arena", *argv)
    assert said in err
    assert err.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(monkeypatch, video_folder):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs starlette and uvicorn: pip install 'mpgen\[arena\]'"):
        serve(video_folder)


def test_a_taken_port_is_one_line_and_leaves_nothing(tmp_path, video_folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: .*wanted a free address and port"):
            serve(video_folder, tmp_path / "votes.sqlite", port=port)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("host", "port"), [("no such host", 8000), ("127.0.0.1", 99_999), ("127.0.0.1", -1)])
def test_an_address_that_is_none_is_one_line(tmp_path, video_folder, host, port):
    with pytest.raises(UserError, match="--host"):
        serve(video_folder, tmp_path / "votes.sqlite", host=host, port=port)
