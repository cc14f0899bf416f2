"""Laws of weights: what is there looks, what is not is said, and random weights are never taken for real ones."""

import dataclasses
import json
from functools import partial

import pytest
import torch

from mpgen.errors import UserError
from mpgen.evaluation.command import evaluate
from mpgen.evaluation.vbench.metrics import VBENCH, AestheticQuality, BackgroundConsistency, SubjectConsistency
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.randomise import randomise

TINY = partial(Dino, width=24, depth=2, num_heads=2)
DINO_FILE = "dino_vitbase16_pretrain.pth"


@pytest.fixture
def tiny_dino(monkeypatch):
    """DINO, but small; the other networks as they are."""
    (published,) = SubjectConsistency.networks
    monkeypatch.setattr(SubjectConsistency, "networks", (dataclasses.replace(published, network=TINY),))


@pytest.fixture
def videos(write, moving, tmp_path):
    for number in (0, 1):
        write(tmp_path / "videos" / f"v{number}.mp4", moving(30, 48, 64, seed=number))
    return tmp_path / "videos"


def evaluated(tmp_path) -> dict:
    return json.loads((tmp_path / "out" / "scores.json").read_text())["evaluation"]


def test_every_dimension_without_weights_is_absent_and_names_its_files():
    for metric in VBENCH:
        with pytest.raises(UserError, match=metric.networks[0].files[0].name):
            metric.probe_source(None, "fp32")
    with pytest.raises(UserError, match=r"ViT-L-14.pt, sa_0_4_vit_l_14_linear.pth"):
        AestheticQuality.probe_source(None, "fp32")


def test_a_file_that_is_not_the_published_one_costs_its_own_dimension(tmp_path):
    (tmp_path / "ViT-B-32.pt").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"ViT-B-32.pt is not the published file"):
        BackgroundConsistency.probe_source(tmp_path, "fp32")
    with pytest.raises(UserError, match=f"{DINO_FILE} not in"):
        SubjectConsistency.probe_source(tmp_path, "fp32")


def test_a_file_that_does_not_fit_is_told_and_the_rest_is_scored(tiny_dino, videos, tmp_path, capsys):
    (tmp_path / "w").mkdir()
    torch.save({"cls_token": torch.zeros(1, 1, 5)}, tmp_path / "w" / DINO_FILE)
    evaluate(videos, tmp_path / "out", weights=tmp_path / "w", metrics=["subject", "luminance"])
    record = evaluated(tmp_path)
    assert DINO_FILE in record["absent"]["subject"]
    assert set(record["videos"][0]["scores"]) == {"luminance"}
    assert "absent: subject" in capsys.readouterr().out


def test_a_file_that_fits_scores_and_its_checksum_is_in_the_results(tiny_dino, videos, tmp_path):
    (tmp_path / "w" / "deep").mkdir(parents=True)
    network = TINY()
    randomise(network, 3)
    torch.save(network.vit.state_dict(), tmp_path / "w" / "deep" / DINO_FILE)
    evaluate(videos, tmp_path / "out", weights=tmp_path / "w", metrics="subject")
    record = evaluated(tmp_path)
    assert record["absent"] == {}
    assert record["weights"]["dino"].startswith("sha256 ")
    assert all(0 < video["scores"]["subject"] < 1 for video in record["videos"])
    assert "subject" in record["videos"][0]["drift"]
    assert "mean nothing" not in (tmp_path / "out" / "report.html").read_text()


def test_random_weights_are_told_everywhere_and_kept_apart(tiny_dino, videos, tmp_path, capsys):
    evaluate(videos, tmp_path / "out", weights="random", metrics="subject")
    assert "mean nothing" in capsys.readouterr().out
    record = evaluated(tmp_path)
    assert record["weights"] == {"dino": "random: these scores mean nothing"}
    assert any("random" in warning for warning in record["warnings"])
    assert "mean nothing" in (tmp_path / "out" / "report.html").read_text()
    evaluate(videos, tmp_path / "out", metrics="subject,luminance")
    assert "subject" in evaluated(tmp_path)["absent"]


def test_precision_makes_a_trace_of_its_own():
    full, half = (SubjectConsistency.probe_source("random", precision) for precision in ("fp32", "bf16"))
    assert full.identity != half.identity


@pytest.mark.slow
def test_all_six_networks_with_random_weights_in_one_run(write, moving, tmp_path):
    write(tmp_path / "videos" / "a.mp4", moving(13, 128, 160))
    evaluate(tmp_path / "videos", tmp_path / "out", weights="random")
    record = evaluated(tmp_path)
    assert record["absent"] == {}
    assert set(record["videos"][0]["scores"]) >= {dimension.name for dimension in VBENCH}
    assert {"imaging", "aesthetic", "background", "subject"} <= set(record["videos"][0]["drift"])
