"""Scores over two processes are those of one, also where a process saw no video."""

import numpy as np
import pytest
from metric_ranks import score
from processes import start


@pytest.mark.parametrize("videos", [(2, 1), (3, 0)])
def test_two_processes_score_what_one_scores(videos, tmp_path):
    score(0, (3,), tmp_path)
    ranks = [start(score, rank, videos, tmp_path, said=tmp_path / f"said-{rank}") for rank in range(2)]
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.err for rank in ranks]
    wanted = np.load(tmp_path / "1-0.npy")
    assert np.isfinite(wanted).all()
    for rank in (0, 1):
        np.testing.assert_allclose(np.load(tmp_path / f"2-{rank}.npy"), wanted, rtol=1e-12)
