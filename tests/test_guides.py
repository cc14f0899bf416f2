"""README and the guides beside the code: their commands parse, their links lead somewhere."""

import contextlib
import functools
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mpgen import cli
from mpgen.planner import command as planner
from mpgen.training.cli import MpgenCLI, make_cli

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md"]
GUIDES += sorted(path for folder in ("configs", "mpgen", "tools") for path in (ROOT / folder).rglob("README.md"))
# Files that a guide has its reader make.
MADE = {"student.yaml": "seed_everything: 0\n", "data/mine/training.yaml": "seed_everything: 0\n"}


def blocks(guide: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", guide.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(guide: Path, program: str) -> list[str]:
    """The lines of the guide's shell blocks that run `program`, with what follows it."""
    lines = [part for block in blocks(guide, "bash") for line in block.splitlines() for part in line.split("&&")]
    found = [re.match(rf"\s*(?:\.venv/bin/)?{program} (.*)", line) for line in lines]
    return [match[1] for match in found if match is not None and not match[1].endswith("...")]


def cases(program: str) -> list:
    return [pytest.param(c, id=f"{g.parent.name}: {c}") for g in GUIDES if g.exists() for c in commands(g, program)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder like a checkout's, with the files that the guides have made."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, text in MADE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", cases("mpgen"))
def test_the_commands_of_the_guides_parse(folder, monkeypatch, command):
    words = shlex.split(command, comments=True)
    if "--recipes" in words:  # which has options of its own alone
        assert planner._options().parse_known_args(words[1:])[1] == []
        return
    if words[0] == "plan":  # a command of `fit` with the machines of `plan`
        words = ["fit", *re.sub(r" --gpus \d+| --gpu_memory_gb \d+", "", " ".join(words[1:])).split()]
    monkeypatch.setattr(sys, "argv", ["mpgen", *words])
    if words[0] in ("fit", "validate"):
        monkeypatch.setattr(MpgenCLI, "_check_files", lambda self: None)
        monkeypatch.setattr(MpgenCLI, "_run_subcommand", lambda self, subcommand: None)
        monkeypatch.setattr(sys, "argv", [*sys.argv, "--trainer.accelerator=cpu", "--trainer.devices=1"])
        with contextlib.suppress(SystemExit):  # --print_config ends; a mistake is a UserError
            make_cli()
        return
    found = cli.COMMANDS[words[0]]
    if isinstance(found, cli.Group):
        found = found.verbs[words[1]]
    module, called = import_module(found.module), []
    function = getattr(module, found.function)
    taken = functools.wraps(function)(lambda *args, **options: called.append(options))
    monkeypatch.setattr(module, found.function, taken)
    cli.main()
    assert len(called) == 1


@pytest.mark.parametrize("command", cases("python"))
def test_the_tools_of_the_guides_have_the_options_that_are_given(command):
    tool, *options = shlex.split(command, comments=True)
    if tool == "-c":
        return
    text = (ROOT / tool).read_text(encoding="utf-8")
    assert [option for option in options if option.startswith("--") and option not in text] == []


@pytest.mark.parametrize("guide", [g for g in GUIDES if g.exists()], ids=lambda path: path.parent.name)
def test_every_link_of_a_guide_leads_to_a_file_and_a_heading(guide):
    for link in re.findall(r"\]\(([^)]+)\)", guide.read_text(encoding="utf-8")):
        name, _, heading = link.partition("#")
        if name.startswith("http"):
            continue
        target = guide if not name else (guide.parent / name)
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings], link


def test_the_first_page_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1100
