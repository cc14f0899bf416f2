"""What a rank says when others are gone."""

import os

import pytest

from mpgen.training.callbacks import watch


@pytest.mark.parametrize(
    ("ranks", "error", "told"),
    [
        (2, RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:27561."), True),
        (2, RuntimeError("a tensor has the wrong shape"), False),
        (2, ValueError("Connection closed by peer"), False),
        (1, RuntimeError("Connection closed by peer"), False),
    ],
)
def test_a_rank_that_was_killed_is_told_by_the_others(ranks, error, told):
    said = watch.lost_rank(ranks, error)
    assert (said is not None) == told
    assert said is None or "another of the 2 ranks ended without a word" in said


def test_a_rank_ends_when_the_process_that_started_it_is_gone(monkeypatch, capsys):
    parents, ended = iter([7, 7, 1]), []
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.delenv("RANK", raising=False)
    watch._outlive(7, 0.0)
    assert ended == [1]
    assert "rank 3: the process that started it is gone" in capsys.readouterr().err
