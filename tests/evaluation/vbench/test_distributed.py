"""Scores over two processes are those of one, also where a process saw no video."""

import numpy as np
import pytest
import torch.multiprocessing as mp
from metric_ranks import score


@pytest.mark.parametrize("videos", [(2, 1), (3, 0)])
def test_two_processes_score_what_one_scores(videos, tmp_path):
    score(0, (3,), tmp_path)
    mp.spawn(score, (videos, tmp_path), nprocs=2)
    wanted = np.load(tmp_path / "1-0.npy")
    assert np.isfinite(wanted).all()
    for rank in (0, 1):
        np.testing.assert_allclose(np.load(tmp_path / f"2-{rank}.npy"), wanted, rtol=1e-12)
