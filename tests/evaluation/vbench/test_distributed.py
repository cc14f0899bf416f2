"""Scores over two processes are those of one, also where a process saw no video."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from mpgen.evaluation.trace import Series, Trace
from mpgen.evaluation.vbench.metrics import VBENCH

VECTORS = ("subject", "background")


def trace_of(name: str, seed: int) -> Trace:
    rng = np.random.default_rng(seed)
    shape = (9, 4) if name in VECTORS else (9,)
    values = rng.uniform(0, 30, shape).astype(np.float32)
    return Trace(24.0, 30, 480, 832, {name: Series(values, 3 * np.arange(9) + 3, (-3,))})


def score(rank: int, videos: tuple[int, ...], folder: Path) -> None:
    """A process: its share of the videos, then all six scores over both."""
    if len(videos) > 1:
        os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
        dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=len(videos))
    scores = []
    first = sum(videos[:rank])
    for metric in (kind(average="frame") for kind in VBENCH):
        for seed in range(first, first + videos[rank]):
            metric.update(trace_of(metric.name, seed))
        scores.append(metric.compute().item())
    np.save(folder / f"{len(videos)}-{rank}.npy", scores)
    if len(videos) > 1:
        dist.destroy_process_group()


@pytest.mark.parametrize("videos", [(2, 1), (3, 0)])
def test_two_processes_score_what_one_scores(videos, tmp_path):
    score(0, (3,), tmp_path)
    mp.spawn(score, (videos, tmp_path), nprocs=2)
    wanted = np.load(tmp_path / "1-0.npy")
    assert np.isfinite(wanted).all()
    for rank in (0, 1):
        np.testing.assert_allclose(np.load(tmp_path / f"2-{rank}.npy"), wanted, rtol=1e-12)
