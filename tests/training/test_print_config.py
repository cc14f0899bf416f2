import sys
from pathlib import Path

import pytest
import yaml

from mpgen import cli

SCRATCH = Path(__file__).parents[2] / "configs" / "scratch.yaml"


@pytest.fixture
def printed(monkeypatch, capsys):
    """What `mpgen fit --print_config` says to a config."""

    def run(config: Path) -> str:
        monkeypatch.setattr(sys, "argv", ["mpgen", "fit", "--config", str(config), "--print_config"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr().out

    return run


def test_a_printed_config_explains_itself_and_gives_itself_again(printed, tmp_path):
    said = printed(SCRATCH)
    lines = said.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("  recompute: "))
    assert lines[place - 1].lstrip().startswith("# what blocks compute again in the backward pass")
    whole = tmp_path / "whole.yaml"
    whole.write_text(said, encoding="utf-8")
    assert yaml.safe_load(printed(whole)) == yaml.safe_load(said)
    given, all_ = (yaml.safe_load(text) for text in (SCRATCH.read_text(encoding="utf-8"), said))
    assert all_["model"]["optimizer"]["init_args"]["muon_lr"] == given["model"]["optimizer"]["init_args"]["muon_lr"]
