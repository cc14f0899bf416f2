"""The check of a GPU, in its tiny mode: what it asks is answered, and one check's end is not the others'."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def check_gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import check_gpu

    def broken(bench):
        raise RuntimeError("CUDA error: misaligned address")

    added = {"broken": check_gpu.CHECKS["nccl"].__class__("Nothing breaks", broken)}
    monkeypatch.setattr(check_gpu, "CHECKS", check_gpu.CHECKS | added)
    return check_gpu


def run(check_gpu, monkeypatch, capsys, *options: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--tiny", *options])
    with pytest.raises(SystemExit) as end:
        check_gpu.main()
    return end.value.code, capsys.readouterr().out


def test_every_check_has_a_verdict_and_one_that_raises_does_not_end_the_others(
    check_gpu, monkeypatch, tmp_path, capsys
):
    output = tmp_path / "deep" / "found.json"
    options = ["--output", str(output), "--only", "broken", "eight_bit", "nccl"]
    status, said = run(check_gpu, monkeypatch, capsys, *options)
    found = json.loads(output.read_text())
    checks = found["checks"]
    assert status == 1
    assert found["machine"]["tiny"]
    assert {name: check["verdict"] for name, check in checks.items()} == {
        "broken": "did not hold", "eight_bit": "held", "nccl": "not tried",
    }  # fmt: skip
    assert checks["broken"]["said"] == "RuntimeError: CUDA error: misaligned address"
    assert checks["nccl"]["said"] == "0 GPU(s) here, wanted two"
    assert 1e-4 < checks["eight_bit"]["figures"]["int8"]["error"] < checks["eight_bit"]["figures"]["float8"]["error"]
    assert "did not hold  Nothing breaks: RuntimeError" in said
    # the same command again makes only what has no verdict yet
    monkeypatch.setattr(check_gpu, "checked", lambda name, tiny: {"verdict": "held", "promise": "", "said": name})
    status, said = run(check_gpu, monkeypatch, capsys, *options)
    assert "eight_bit: held before" in said
    assert "broken: did not hold before" in said
    assert json.loads(output.read_text())["checks"]["nccl"]["said"] == "nccl"


def test_what_there_is_no_time_for_is_not_tried(check_gpu, monkeypatch, tmp_path, capsys):
    options = ["--output", str(tmp_path / "found.json"), "--minutes", "0", "--only", "stage_2"]
    status, said = run(check_gpu, monkeypatch, capsys, *options)
    assert status == 0
    assert "not tried: 0 minutes were over; the same command goes on" in said


@pytest.mark.slow
def test_checks_of_training_find_the_planners_figure(check_gpu):
    for name in ("stage_2", "stage_1", "lora"):
        found = check_gpu.checked(name, tiny=True)
        assert found["verdict"] == "held", found
        assert found["figures"]["measured / planned"] == pytest.approx(1, abs=0.05)
