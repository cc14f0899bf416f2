import subprocess
import sys

import pytest
import yaml

from mpgen.errors import UserError
from mpgen.training.ownership import changed_identity, owned


def test_a_folder_has_one_owner_and_is_free_again_when_it_ends(tmp_path):
    program = "import sys, pathlib\nfrom mpgen.training.ownership import owned\n"
    program += "with owned(pathlib.Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(UserError, match=rf"in use by process {other.pid} on .*--run"), owned(tmp_path / "run"):
            pass
        other.kill()
    with owned(tmp_path / "run"):
        assert (tmp_path / "run" / ".owner").exists()


BEFORE = {
    "model": {
        "forcing": {"class_path": "mpgen.training.forcing.DirectForcing", "init_args": {"sigma_max": 1.0}},
        "sigma": {"class_path": "mpgen.flow.LogitNormal", "init_args": {"mean": 0.0, "shift": 3.0}},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        "seed": 0,
    }
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-5}}}, []),
        (
            {"forcing": {"class_path": "a.StudentForcing", "init_args": {"steps": 5}}},
            ["model.forcing: DirectForcing -> StudentForcing"],
        ),
        (
            {"sigma": {"class_path": "mpgen.flow.LogitNormal", "init_args": {"mean": 0.0, "shift": 7.0}}},
            ["model.sigma.init_args.shift: 3.0 -> 7.0"],
        ),
        ({"seed": 1}, ["model.seed: 0 -> 1"]),
    ],
)
def test_only_what_a_run_is_counts_as_another_run(change, said):
    now = {"model": BEFORE["model"] | change}
    assert changed_identity(yaml.safe_dump(BEFORE), yaml.safe_dump(now)) == said
